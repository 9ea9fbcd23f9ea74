//! The protobuf wire format: fields of one message, borrowed.
//!
//! Reading a field allocates nothing and looks at nothing beyond its own bytes; a message inside a
//! message is a slice until somebody asks for its fields. So nesting costs nothing, and every
//! length is checked against what is there before it is believed.
//! Format: protobuf.dev, "Encoding". Groups, which OTLP does not use, are refused.

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end inside a field.
    #[error("the message ends inside a field")]
    Truncated,
    /// A varint of more than ten bytes.
    #[error("a number has more than ten bytes")]
    VarintTooLong,
    /// Field number 0, or one above 2^29 - 1.
    #[error("a field number is out of range")]
    FieldNumber,
    /// A wire type that is unknown, or a group.
    #[error("a field has wire type {0}")]
    WireType(u8),
    /// A known field with another wire type than its own.
    #[error("field {0} has another type than OTLP gives it")]
    FieldType(u32),
    /// Text that is not UTF-8.
    #[error("text in field {0} is not UTF-8")]
    Text(u32),
}

/// The value of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire<'a> {
    /// A varint.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Four bytes.
    Fixed32(u32),
    /// Bytes, text or a message.
    Bytes(&'a [u8]),
}

/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its number.
    pub number: u32,
    /// Its value.
    pub value: Wire<'a>,
}

impl<'a> Field<'a> {
    /// The bytes of a message or byte string.
    ///
    /// # Errors
    /// It is something else.
    pub fn bytes(&self) -> Result<&'a [u8], WireError> {
        match self.value {
            Wire::Bytes(bytes) => Ok(bytes),
            _ => Err(WireError::FieldType(self.number)),
        }
    }

    /// The text.
    ///
    /// # Errors
    /// It is something else, or not UTF-8.
    pub fn text(&self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| WireError::Text(self.number))
    }

    /// The eight bytes as a number.
    ///
    /// # Errors
    /// It is something else.
    pub fn fixed64(&self) -> Result<u64, WireError> {
        match self.value {
            Wire::Fixed64(number) => Ok(number),
            _ => Err(WireError::FieldType(self.number)),
        }
    }

    /// The varint.
    ///
    /// # Errors
    /// It is something else.
    pub fn varint(&self) -> Result<u64, WireError> {
        match self.value {
            Wire::Varint(number) => Ok(number),
            _ => Err(WireError::FieldType(self.number)),
        }
    }
}

/// The fields of one message, in the order they stand there.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of the message in `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field, `None` at the end.
    ///
    /// # Errors
    /// [`WireError`]; nothing that follows can be told apart then.
    pub fn next_field(&mut self) -> Result<Option<Field<'a>>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| WireError::FieldNumber)?;
        if number == 0 || number >= 1 << 29 {
            return Err(WireError::FieldNumber);
        }
        let value = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.array()?)),
            other => return Err(WireError::WireType(u8::try_from(other).unwrap_or(u8::MAX))),
        };
        Ok(Some(Field { number, value }))
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let (first, rest) = self.rest.split_first().ok_or(WireError::Truncated)?;
            self.rest = rest;
            // Of the tenth byte only one bit fits; the others are cut, as everywhere.
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::VarintTooLong)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Field<'_>>, WireError> {
        let mut fields = Fields::new(bytes);
        let mut found = Vec::new();
        while let Some(field) = fields.next_field()? {
            found.push(field);
        }
        Ok(found)
    }

    #[test]
    fn reads_each_wire_type() {
        let bytes = [
            0x08, 0x96, 0x01, 0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0x1a, 2, b'h', b'i', 0x25, 2, 0, 0, 0,
        ];
        let values: Vec<(u32, Wire<'_>)> = read(&bytes)
            .unwrap()
            .into_iter()
            .map(|field| (field.number, field.value))
            .collect();
        assert_eq!(
            values,
            [
                (1, Wire::Varint(150)),
                (2, Wire::Fixed64(1)),
                (3, Wire::Bytes(b"hi")),
                (4, Wire::Fixed32(2)),
            ]
        );
    }

    #[test]
    fn refuses_what_is_cut_off_or_lies_about_its_length() {
        let cases: [(&[u8], WireError); 7] = [
            (&[0x08], WireError::Truncated),
            (&[0x11, 1, 2], WireError::Truncated),
            (&[0x1a, 200, 1, 0], WireError::Truncated),
            (
                &[0x1a, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
                WireError::Truncated,
            ),
            (&[0x08; 12], WireError::Truncated),
            (&[0x02, 0], WireError::FieldNumber),
            (&[0x0b], WireError::WireType(3)),
        ];
        for (bytes, error) in cases {
            // Twelve times 0x08 is six good fields; one more byte is half a field.
            let bytes = if bytes.len() == 12 {
                &bytes[1..]
            } else {
                bytes
            };
            assert_eq!(read(bytes), Err(error), "{bytes:?}");
        }
        assert_eq!(read(&[0xff; 11]), Err(WireError::VarintTooLong));
    }
}
