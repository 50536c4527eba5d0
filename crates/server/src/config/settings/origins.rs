//! The settings about web pages and proxies, and the kinds of value that only they have.

use ipnet::IpNet;
use outspoke_hub::Origin;

use crate::config::kind::{Flag, Form, Input, Kind, Refusal};
use crate::config::table::section;

section! {
    /// Which web pages may connect and use the HTTP API. Pages of the address that they connect to always may; see
    /// docs/operating/origins.md.
    Origins at "origins" {
        /// Origins of other pages that may, each exactly as browsers send it: `https://app.example`, with :port if it
        /// is not the usual one.
        allowed: Vec<Origin> as OriginList = "" {}

        /// Let pages connect that have no origin (Origin: null): files, and sandboxed frames of any site.
        null: bool as Flag = "false" {}

        /// Let clients connect that send no Origin: every program that is no browser.
        absent: bool as Flag = "true" {}
    }
}

/// Origins of web pages.
#[derive(Debug)]
pub enum OriginList {}

impl Kind for OriginList {
    type Value = Vec<Origin>;
    const NAME: &'static str = "list of origins";
    const ACCEPTS: &'static str =
        "origins such as https://app.example: a list in the file, separated by commas elsewhere";
    const FORM: Form = Form::List;

    fn read(text: &str) -> Result<Vec<Origin>, Refusal> {
        list(text.split(','), |item| item.parse::<Origin>().map_err(|why| why.to_string()))
    }

    fn read_input(input: &Input) -> Result<Vec<Origin>, Refusal> {
        each(input, Self::read, |item| item.parse::<Origin>().map_err(|why| why.to_string()))
    }
}

/// Addresses of machines, or of networks.
#[derive(Debug)]
pub enum Networks {}

impl Kind for Networks {
    type Value = Vec<IpNet>;
    const NAME: &'static str = "list of networks";
    const ACCEPTS: &'static str = "addresses or networks such as 10.0.0.7 or 10.0.0.0/8: a list in the file, separated by commas elsewhere";
    const FORM: Form = Form::List;

    fn read(text: &str) -> Result<Vec<IpNet>, Refusal> {
        list(text.split(','), network)
    }

    fn read_input(input: &Input) -> Result<Vec<IpNet>, Refusal> {
        each(input, Self::read, network)
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<std::net::IpAddr>().map(|ip| IpNet::from(ip.to_canonical()));
    text.parse::<IpNet>().or_else(|_| address()).map_err(|_| "is neither an address nor a network".to_owned())
}

/// Reads a list, however it was written.
fn each<T>(
    input: &Input,
    read: fn(&str) -> Result<Vec<T>, Refusal>,
    item: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Refusal> {
    match input {
        Input::Scalar(text) => read(text),
        Input::List(items) => list(items.iter().map(String::as_str), item),
        Input::Null => {
            Err(Refusal { why: "has no value".into(), hint: Some("write [] for none".to_owned()) })
        }
        Input::Nested => Err(Refusal { why: "is a block, but takes a list".into(), hint: None }),
    }
}

fn list<'a, T>(
    items: impl Iterator<Item = &'a str>,
    item: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Refusal> {
    let items: Vec<&str> = items.map(str::trim).collect();
    if items == [""] {
        return Ok(Vec::new());
    }
    let read = |text: &&str| {
        item(text).map_err(|why| Refusal { why: format!("holds {text:?}, which {why}").into(), hint: None })
    };
    items.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn networks_are_addresses_or_prefixes() {
        let read = Networks::read("10.0.0.0/8, 192.0.2.1,::1, fd00::/8").unwrap();
        let texts: Vec<String> = read.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.0.0.0/8", "192.0.2.1/32", "::1/128", "fd00::/8"]);
        assert_eq!(Networks::read("").unwrap(), Vec::new());
        for bad in ["10.0.0.0/33", "proxy.example", "10.0.0.0/8,,1.1.1.1", "*"] {
            assert!(Networks::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origin_that_is_none_is_named_with_what_is_wrong() {
        let refusal = OriginList::read("https://a.example, https://*.b.example").unwrap_err();
        assert_eq!(
            refusal.why,
            r#"holds "https://*.b.example", which has a wildcard; write each origin in full"#
        );
        let list = Input::List(vec!["https://a.example".to_owned(), "http://b.example:8080".to_owned()]);
        assert_eq!(OriginList::read_input(&list).unwrap().len(), 2);
    }
}
