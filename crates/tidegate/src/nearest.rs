//! Which of the known words somebody most likely meant.

/// The known word nearest to `word`, unless none is near.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let near_enough = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(word, known), known))
        .filter(|(distance, _)| *distance <= near_enough)
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_another_word_is_not() {
        let known = ["new-checkout", "faster-search", "a"];
        for (word, expected) in [
            ("new-chekout", Some("new-checkout")),
            ("new-checkuot", Some("new-checkout")),
            ("fast-search", Some("faster-search")),
            ("b", Some("a")),
            ("gift-wrapping", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
