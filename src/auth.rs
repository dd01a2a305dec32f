//! Signs calls with the password of a network, and verifies such proofs.
//!
//! A proof is the lower-case hexadecimal HMAC-MD5 of the called server's own URL, keyed with the password. Neither
//! the password nor a proof is ever printed: neither type has `Display`, and the password's `Debug` hides it.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;

/// The secret that all peers of a network share: any text, even an empty one.
#[derive(Clone)]
pub(crate) struct Password(String);

impl Password {
    /// Makes a password of a text, whose UTF-8 bytes are the key of the HMAC.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Its UTF-8 bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether it is the empty text, which is hardly meant.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it begins or ends with white space, which is part of it and seldom meant.
    pub(crate) fn has_outer_white_space(&self) -> bool {
        self.0.trim() != self.0
    }

    /// Returns the proof for a call to the server that calls itself `url`.
    pub(crate) fn sign(&self, url: &str) -> String {
        hex::encode(self.mac(url).finalize().into_bytes())
    }

    /// Whether `proof` is the one for a call to the server that calls itself `url`, compared in constant time.
    /// Upper-case digits are refused, as the original's comparison of text refuses them.
    pub(crate) fn verify(&self, proof: &str, url: &str) -> bool {
        if proof.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return false;
        }
        hex::decode(proof).is_ok_and(|tag| self.mac(url).verify_slice(&tag).is_ok())
    }

    fn mac(&self, url: &str) -> Hmac<Md5> {
        let mac = Hmac::<Md5>::new_from_slice(self.0.as_bytes());
        mac.expect("an HMAC takes a key of any length").chain_update(url)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://127.0.0.1:34567";

    #[test]
    fn proofs_are_those_of_the_original() {
        let password = Password::new("123456");
        assert_eq!(password.sign(URL), "b38af226b17a999065bedd075a447e90");
        assert_eq!(password.sign("http://127.0.0.1:34568"), "aa838e729b57227384963b8f5076a529");
    }

    #[test]
    fn only_the_exact_lower_case_proof_is_accepted() {
        let password = Password::new("123456");
        assert!(password.verify("b38af226b17a999065bedd075a447e90", URL));
        for wrong in [
            "",
            "b38af226b17a999065bedd075a447e9",
            "b38af226b17a999065bedd075a447e91",
            "B38AF226B17A999065BEDD075A447E90",
            "b38af226b17a999065bedd075a447e9000",
            "not hexadecimal at all, not at al",
        ] {
            assert!(!password.verify(wrong, URL), "{wrong:?} was accepted");
        }
        assert!(!Password::new("").verify("b38af226b17a999065bedd075a447e90", URL));
    }

    #[test]
    fn an_empty_password_has_proofs_too() {
        let password = Password::new("");
        assert!(password.verify(&password.sign(URL), URL));
    }

    #[test]
    fn debug_output_hides_the_password() {
        assert_eq!(format!("{:?}", Password::new("secret")), "Password(..)");
    }
}
