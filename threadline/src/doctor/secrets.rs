//! Names of columns that look like those of secrets.

/// What is secret wherever it stands in a name, written without separators.
const ANYWHERE: [&str; 18] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "apikey",
    "privatekey",
    "accesskey",
    "credential",
    "socialsecurity",
    "creditcard",
    "cardnumber",
    "cardno",
    "bankaccount",
    "taxid",
    "recoverycode",
    "securitycode",
];

/// What is secret as a word of its own.
const WORDS: [&str; 11] = ["pwd", "ssn", "sin", "cvv", "cvc", "iban", "otp", "totp", "pin", "pan", "mfa"];

/// Last words of names that say something of a secret, and not the secret.
const ABOUT: [&str; 20] = [
    "at", "on", "by", "id", "ids", "count", "counts", "type", "kind", "length", "version", "enabled",
    "required", "expires", "expiry", "status", "name", "attempts", "policy", "limit",
];

/// Whether the name of a column looks like that of a secret.
pub(super) fn looks_secret(column: &str) -> bool {
    let words = words(column);
    if words.last().is_some_and(|last| words.len() > 1 && ABOUT.contains(&last.as_str())) {
        return false;
    }
    let joined = words.concat();
    words.iter().any(|word| WORDS.contains(&word.as_str()))
        || ANYWHERE.iter().any(|secret| joined.contains(secret))
}

/// The words of a name, in lower case: between separators, and where lower case becomes upper case.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = vec![String::new()];
    let mut was_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (was_lower && c.is_uppercase()) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
        was_lower = c.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_recognised_and_those_about_them_are_not() {
        for name in [
            "password",
            "Password",
            "password_hash",
            "encrypted_password",
            "passwordDigest",
            "user_pwd",
            "secret",
            "client_secret",
            "otp_secret",
            "token",
            "reset_token",
            "refreshToken",
            "api_key",
            "apiKey",
            "APIKEY",
            "private_key",
            "ssn",
            "SSN",
            "card_number",
            "credit_card",
            "cvv",
            "iban",
            "pin",
            "social_security_no",
            "recovery_codes",
            "totp",
            "credentials",
        ] {
            assert!(looks_secret(name), "{name}");
        }
        for name in [
            "id",
            "email",
            "name",
            "compass",
            "spinner",
            "shipping",
            "japan",
            "company",
            "sincerely",
            "pinned",
            "panel",
            "tokenless_at",
            "token_id",
            "token_count",
            "password_changed_at",
            "passwordExpiresAt",
            "otp_enabled",
            "card_type",
            "secret_name",
            "key",
            "",
            "_",
            "description",
        ] {
            assert!(!looks_secret(name), "{name}");
        }
    }
}
