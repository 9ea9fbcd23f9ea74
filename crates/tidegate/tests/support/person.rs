//! A person with a browser: follows links, signs in, and keeps the cookie.

use serde_json::Value;

use super::{Answer, Server, request};

/// The password every invited person sets.
pub const PASSWORD: &str = "a-long-enough-password";

/// Where the pages of the server come from, as the client of these tests names its host.
pub const ORIGIN: &str = "http://localhost";

/// Somebody who is signed in.
pub struct Session {
    cookie: String,
}

impl Session {
    /// Follows the link in the answer to an invitation or a reset.
    pub fn by_link(server: &Server, invited: &Answer) -> Self {
        let answer = invited.json();
        let path = answer["link"]["path"].as_str().unwrap();
        let link = path.split_once("link=").unwrap().1;
        let body = format!("link={link}&password={PASSWORD}");
        Self::opened(server, "/sign-in/link", &body).expect("the link lets in")
    }

    /// Signs in, if the password is right.
    pub fn by_password(server: &Server, address: &str, password: &str) -> Option<Self> {
        let body = format!("address={}&password={password}", encoded(address));
        Self::opened(server, "/sign-in", &body)
    }

    /// Sets another password, if the one before is right.
    pub fn by_new_password(server: &Server, address: &str, old: &str, new: &str) -> Option<Self> {
        let address = encoded(address);
        let body = format!("address={address}&password={old}&new_password={new}");
        Self::opened(server, "/sign-in/password", &body)
    }

    fn opened(server: &Server, path: &str, body: &str) -> Option<Self> {
        let headers = [
            ("origin", ORIGIN),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        let answer = request(server.address, "POST", path, &headers, body.as_bytes());
        if answer.status == 403 {
            return None;
        }
        assert_eq!(answer.status, 303, "{path}: {answer}");
        let set = answer.header("set-cookie").unwrap();
        let cookie = set.split(';').next().unwrap().to_owned();
        Some(Self { cookie })
    }

    /// The headers by which a page of the server is known.
    pub fn headers<'a>(&'a self, origin: &'a str) -> [(&'a str, &'a str); 2] {
        [("cookie", self.cookie.as_str()), ("origin", origin)]
    }

    /// Sends as a page of the server does.
    pub fn send(&self, server: &Server, method: &str, path: &str, body: &Value) -> Answer {
        self.send_with(server, method, path, &[], body)
    }

    /// As [`Self::send`], with conditions.
    pub fn send_with(
        &self,
        server: &Server,
        method: &str,
        path: &str,
        conditions: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend_from_slice(conditions);
        headers.extend(self.headers(ORIGIN));
        let body = match body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        };
        request(server.address, method, path, &headers, &body)
    }
}

fn encoded(address: &str) -> String {
    address.replace('@', "%40")
}
