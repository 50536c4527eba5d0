//! The table of settings: one declaration makes the typed struct, its reader and its reference entry.
//!
//! [`super::settings`] is written in this module's `section!` macro. Because the three come from one place, a
//! setting cannot exist without documentation, a default, or a reader.

use std::fmt;

use super::entry::Entry;
use super::error::mask_userinfo;
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
    /// The path it had in earlier versions, which still works.
    pub formerly: Option<&'static str>,
    /// The keys of each entry, if the value is a list of blocks. Their paths are their names alone.
    pub entry: &'static [Self],
    /// In an entry: what counts where the key is not written.
    pub absent: Absent,
    /// In an entry: whether no two entries may have the same value.
    pub unique: bool,
    /// Entries to learn from, as they would be written, where the default has none.
    pub example: Option<&'static str>,
}

/// What counts where a key of an entry is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// The key's own default.
    Default,
    /// Nothing does: the entry is wrong.
    Required,
    /// The value of the setting with this path.
    Inherited(&'static str),
}

impl Key {
    /// A key that says nothing yet.
    pub(super) const BLANK: Self = Self {
        path: "",
        kind: "",
        accepts: "",
        form: Form::Quoted,
        default: "",
        doc: "",
        range: None,
        unit: None,
        zero: None,
        at_limit: None,
        secret: false,
        formerly: None,
        entry: &[],
        absent: Absent::Default,
        unique: false,
        example: None,
    };

    /// A key whose value is a list of blocks.
    pub(super) const LIST: Self = Self {
        kind: "list of blocks",
        accepts: "a list of blocks in the file, the same as YAML or JSON text elsewhere",
        form: Form::Blocks,
        ..Self::BLANK
    };

    /// Whether the value is a list of blocks.
    pub fn is_list(&self) -> bool {
        self.form == Form::Blocks
    }
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

/// A typed entry of a list.
pub(super) trait Block: Sized {
    /// The keys an entry may have, in order.
    const KEYS: &'static [Key];
    /// Takes the values out of an entry; `None` if one of them is missing or bad, which is reported.
    fn read(entry: &mut Entry<'_>) -> Option<Self>;
}

/// A value as `Debug` may print it: secrets not at all, addresses without their passwords.
pub(super) struct Masked<'a, T>(pub(super) &'a Key, pub(super) &'a T);

impl<T: fmt::Debug> fmt::Debug for Masked<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.secret {
            return f.write_str("***");
        }
        f.write_str(&mask_userinfo(&format!("{:?}", self.1)))
    }
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
/// `field: Type as Kind = "default" { range: .., zero: .., .. }`, after a doc comment. Lists of blocks follow in
/// `lists { name: Block = "default" { .. } }`, nested sections in `with { name: Type }`.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $name:ident at $path:literal {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $ty:ty as $kind:ty = $default:literal { $($attr:ident: $value:expr),* $(,)? }
            )*
        }
        $(lists { $(
            $(#[doc = $list_doc:literal])+
            $list:ident: $block:ty = $list_default:literal { $($list_attr:ident: $list_value:expr),* $(,)? }
        )+ })?
        $(with { $($(#[doc = $sub_doc:literal])+ $sub:ident: $sub_ty:ty),+ $(,)? })?
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, PartialEq)]
        pub struct $name {
            $(
                $(#[doc = $doc])+
                #[doc = ""]
                #[doc = concat!("Default: `", $default, "`.")]
                pub $field: $ty,
            )*
            $($(
                $(#[doc = $list_doc])+
                #[doc = ""]
                #[doc = concat!("Default: `", $list_default, "`.")]
                pub $list: Vec<$block>,
            )+)?
            $($($(#[doc = $sub_doc])+ pub $sub: $sub_ty,)+)?
        }

        /// The table entry of each field, under the field's name.
        #[allow(non_upper_case_globals)]
        impl $name {
            $(pub(super) const $field: $crate::config::table::Key = $crate::config::table::Key {
                $($attr: $value,)*
                ..$crate::config::table::Key {
                    path: concat!($path, ".", stringify!($field)),
                    kind: <$kind as $crate::config::kind::Kind>::NAME,
                    accepts: <$kind as $crate::config::kind::Kind>::ACCEPTS,
                    form: <$kind as $crate::config::kind::Kind>::FORM,
                    default: $default,
                    doc: concat!($($doc, "\n"),+),
                    ..$crate::config::table::Key::BLANK
                }
            };)*
            $($(pub(super) const $list: $crate::config::table::Key = $crate::config::table::Key {
                $($list_attr: $list_value,)*
                ..$crate::config::table::Key {
                    path: concat!($path, ".", stringify!($list)),
                    default: $list_default,
                    doc: concat!($($list_doc, "\n"),+),
                    entry: <$block as $crate::config::table::Block>::KEYS,
                    ..$crate::config::table::Key::LIST
                }
            };)+)?
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    $(.field(stringify!($field), &$crate::config::table::Masked(&Self::$field, &self.$field)))*
                    $($(.field(stringify!($list), &self.$list))+)?
                    $($(.field(stringify!($sub), &self.$sub))+)?
                    .finish()
            }
        }

        impl $crate::config::table::Section for $name {
            fn describe(out: &mut Vec<$crate::config::table::SectionInfo>) {
                out.push($crate::config::table::SectionInfo {
                    path: $path,
                    doc: concat!($($about, "\n"),+),
                    keys: vec![$(Self::$field,)* $($(Self::$list,)+)?],
                });
                $($(<$sub_ty as $crate::config::table::Section>::describe(out);)+)?
            }

            fn read(resolver: &mut $crate::config::resolve::Resolver) -> Self {
                Self {
                    $($field: resolver.value::<$kind>(&Self::$field),)*
                    $($($list: resolver.blocks::<$block>(&Self::$list),)+)?
                    $($($sub: <$sub_ty as $crate::config::table::Section>::read(resolver),)+)?
                }
            }
        }
    };
}
pub(super) use section;

/// Declares what an entry of a list of blocks holds.
///
/// `field: Type as Kind = required { .. }` must be written, `= "default" { .. }` need not, and
/// `= inherited from Section {}` is, documentation and range included, the setting of the same name in that section
/// unless the entry says otherwise.
macro_rules! block {
    (
        $(#[doc = $about:literal])+
        $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $field:ident: $ty:ty as $kind:ty = $how:tt $(from $base:ident)?
                    { $($attr:ident: $value:expr),* $(,)? }
            )*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, PartialEq)]
        pub struct $name {
            $(
                $(#[doc = $doc])*
                $(#[doc = concat!("As `", stringify!($base), "::", stringify!($field), "`, for this entry.")])?
                pub $field: $ty,
            )*
        }

        /// The table entry of each field, under the field's name.
        #[allow(non_upper_case_globals)]
        impl $name {
            $(const $field: $crate::config::table::Key = $crate::config::table::Key {
                $($attr: $value,)*
                ..block!(@key $how $($base)?, $field, $kind, ($($doc),*))
            };)*
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    $(.field(stringify!($field), &$crate::config::table::Masked(&Self::$field, &self.$field)))*
                    .finish()
            }
        }

        impl $crate::config::table::Block for $name {
            const KEYS: &'static [$crate::config::table::Key] = &[$(Self::$field),*];

            fn read(entry: &mut $crate::config::entry::Entry<'_>) -> Option<Self> {
                // All of them before the first `?`: every mistake is to be reported.
                $(let $field = entry.value::<$kind>(&Self::$field);)*
                Some(Self { $($field: $field?,)* })
            }
        }
    };
    (@key required, $field:ident, $kind:ty, $doc:tt) => {
        $crate::config::table::Key {
            absent: $crate::config::table::Absent::Required,
            ..block!(@key "", $field, $kind, $doc)
        }
    };
    (@key inherited $base:ident, $field:ident, $kind:ty, $doc:tt) => {
        $crate::config::table::Key {
            path: stringify!($field),
            absent: $crate::config::table::Absent::Inherited($base::$field.path),
            formerly: None,
            ..$base::$field
        }
    };
    (@key $default:literal, $field:ident, $kind:ty, ($($doc:literal),*)) => {
        $crate::config::table::Key {
            path: stringify!($field),
            kind: <$kind as $crate::config::kind::Kind>::NAME,
            accepts: <$kind as $crate::config::kind::Kind>::ACCEPTS,
            form: <$kind as $crate::config::kind::Kind>::FORM,
            default: $default,
            doc: concat!($($doc, "\n"),*),
            ..$crate::config::table::Key::BLANK
        }
    };
}
pub(super) use block;
