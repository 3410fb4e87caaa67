//! Keeps personal data out of `Debug` output: whatever holds some prints its name and nothing else.

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
