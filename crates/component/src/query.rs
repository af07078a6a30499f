//! Texts of connection strings, as the reference's language reads a query.

/// With its escapes resolved: `%20`, and `+` for a space. `None`: an escape is broken, or it is no UTF-8.
pub fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn escapes() {
        for (text, expected) in [
            ("", Some("")),
            ("a+b%20c%2B", Some("a b c+")),
            ("%c3%A4", Some("ä")),
            ("%", None),
            ("%2", None),
            ("%+1", None),
            ("%zz", None),
            ("%ff", None),
        ] {
            assert_eq!(decoded(text).as_deref(), expected, "{text:?}");
        }
    }
}
