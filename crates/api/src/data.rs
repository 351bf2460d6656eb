//! Bytes in JSON: as text where they are text, else in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// Some bytes: `{"text": "…"}` where they are UTF-8, else `{"base64": "…"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Data(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Written {
    Text(String),
    Base64(String),
}

impl TryFrom<Written> for Data {
    type Error = base64::DecodeError;
    fn try_from(written: Written) -> Result<Self, Self::Error> {
        match written {
            Written::Text(text) => Ok(Self(text.into_bytes())),
            Written::Base64(text) => STANDARD.decode(text).map(Self),
        }
    }
}

impl From<Data> for Written {
    fn from(Data(bytes): Data) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Base64(STANDARD.encode(error.as_bytes())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_read_back(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let written = serde_json::to_string(&Data(bytes.clone())).unwrap();
            prop_assert_eq!(serde_json::from_str::<Data>(&written).unwrap().0, bytes);
        }
    }

    #[test]
    fn text_stays_readable() {
        assert_eq!(serde_json::to_string(&Data("grüß".into())).unwrap(), r#"{"text":"grüß"}"#);
        assert_eq!(serde_json::to_string(&Data(vec![0xff])).unwrap(), r#"{"base64":"/w=="}"#);
    }
}
