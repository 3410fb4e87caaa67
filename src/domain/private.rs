//! Keeps personal data out of `Debug` output, where whatever holds some prints its name and nothing else, and out of what is shown to
//! people who need not see it.

/// Implements `Debug` without any value.
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

/// Stands for something that looks like a person's.
pub(crate) const HIDDEN: &str = "(hidden)";

/// An upstream's own id, unless it looks like an email address, a phone number or a name: the key says which job it is.
pub(crate) fn shown_id(id: &str) -> &str {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/#~".contains(&byte);
    if id.len() <= 128 && id.bytes().all(is_fit) { id } else { HIDDEN }
}
