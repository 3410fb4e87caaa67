//! Keeps personal data out of `Debug` output and out of ids in logs. A type with personal data prints only its name.

/// Implements `Debug` as the name of the type, without any value.
macro_rules! debug_redacted {
    ($($name:ident $(<$($parameter:tt),+>)?),+ $(,)?) => {$(
        impl$(<$($parameter),+>)? ::std::fmt::Debug for $name$(<$($parameter),+>)? {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(concat!(stringify!($name), "([redacted])"))
            }
        }
    )+};
}

pub(crate) use debug_redacted;

/// Replaces an id that looks like personal data.
pub(crate) const HIDDEN: &str = "(hidden)";

/// Returns an upstream's own id, or [`HIDDEN`] where it looks like an email address, a phone number or a name. The key
/// identifies the job anyway.
pub(crate) fn shown_id(id: &str) -> &str {
    let is_harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/#~".contains(&byte);
    if id.len() <= 128 && id.bytes().all(is_harmless) { id } else { HIDDEN }
}
