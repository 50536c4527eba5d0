//! The table of settings: one declaration makes the typed struct, its reader and its reference entry.
//!
//! [`super::settings`] is written in this module's `section!` macro. Because the three come from one place, a
//! setting cannot exist without documentation, a default, or a reader.

use super::kind::Form;
use super::resolve::Resolver;

/// Everything the reference says about one setting.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Dotted path: `server.read_timeout`.
    pub path: &'static str,
    /// Name of the kind of value: `duration`.
    pub kind: &'static str,
    /// What is accepted, to follow "write".
    pub accepts: &'static str,
    /// How the value is printed.
    pub form: Form,
    /// The default, as it would be written.
    pub default: &'static str,
    /// The doc comment, one line per source line.
    pub doc: &'static str,
    /// Smallest and largest accepted value, as they would be written. Zero is judged by `zero` alone.
    pub range: Option<(&'static str, &'static str)>,
    /// What is counted, where the name does not say it: `connections`.
    pub unit: Option<&'static str>,
    /// What zero means; without it zero is an ordinary value, and refused if below the range.
    pub zero: Option<&'static str>,
    /// What happens when the limit is reached.
    pub at_limit: Option<&'static str>,
    /// Whether the value must never be printed.
    pub secret: bool,
}

/// One block of the file.
#[derive(Debug, Clone)]
pub struct SectionInfo {
    /// Dotted path: `cluster.etcd`.
    pub path: &'static str,
    /// The doc comment.
    pub doc: &'static str,
    /// Its settings, in order.
    pub keys: Vec<Key>,
}

/// A typed block of settings.
pub(super) trait Section: Sized {
    /// Appends this block, then the blocks inside it.
    fn describe(out: &mut Vec<SectionInfo>);
    /// Takes its values out of the merged layers.
    fn read(resolver: &mut Resolver) -> Self;
}

/// The doc comment as paragraphs: lines joined, blank lines kept as breaks.
pub fn paragraphs(doc: &str) -> Vec<String> {
    doc.split("\n\n")
        .map(|part| part.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned())
        .filter(|part| !part.is_empty())
        .collect()
}

/// Declares one section of the settings.
///
/// `field: Type as Kind = "default" { range: .., zero: .., .. }`, after a doc comment; nested sections follow in
/// `with { name: Type }`.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $name:ident at $path:literal {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $ty:ty as $kind:ty = $default:literal { $($attr:ident: $value:expr),* $(,)? }
            )*
        }
        $(with { $($(#[doc = $sub_doc:literal])+ $sub:ident: $sub_ty:ty),+ $(,)? })?
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $(
                $(#[doc = $doc])+
                #[doc = ""]
                #[doc = concat!("Default: `", $default, "`.")]
                pub $field: $ty,
            )*
            $($($(#[doc = $sub_doc])+ pub $sub: $sub_ty,)+)?
        }

        impl $crate::config::table::Section for $name {
            fn describe(out: &mut Vec<$crate::config::table::SectionInfo>) {
                out.push($crate::config::table::SectionInfo {
                    path: $path,
                    doc: concat!($($about, "\n"),+),
                    keys: vec![$(section!(@key $path, $field, $kind, $default, ($($doc),+), $($attr: $value),*)),*],
                });
                $($(<$sub_ty as $crate::config::table::Section>::describe(out);)+)?
            }

            fn read(resolver: &mut $crate::config::resolve::Resolver) -> Self {
                Self {
                    $($field: {
                        const KEY: $crate::config::table::Key =
                            section!(@key $path, $field, $kind, $default, ($($doc),+), $($attr: $value),*);
                        resolver.value::<$kind>(&KEY)
                    },)*
                    $($($sub: <$sub_ty as $crate::config::table::Section>::read(resolver),)+)?
                }
            }
        }
    };
    (@key $path:literal, $field:ident, $kind:ty, $default:literal, ($($doc:literal),+), $($attr:ident: $value:expr),*) => {
        $crate::config::table::Key {
            $($attr: $value,)*
            ..$crate::config::table::Key {
                path: concat!($path, ".", stringify!($field)),
                kind: <$kind as $crate::config::kind::Kind>::NAME,
                accepts: <$kind as $crate::config::kind::Kind>::ACCEPTS,
                form: <$kind as $crate::config::kind::Kind>::FORM,
                default: $default,
                doc: concat!($($doc, "\n"),+),
                range: None,
                unit: None,
                zero: None,
                at_limit: None,
                secret: false,
            }
        }
    };
}
pub(super) use section;
