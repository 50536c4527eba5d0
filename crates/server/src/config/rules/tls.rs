//! Rules about TLS and proxies.

use super::Rules;
use crate::config::settings::Config;
use crate::config::settings::tls::ClientAuth;

impl Rules<'_> {
    pub(super) fn tls(&mut self, config: &Config) {
        let tls = &config.tls;
        let [certificate, key] = ["tls.certificate", "tls.key"];
        match (&tls.certificate, &tls.key) {
            (Some(_), None) => {
                let what = format!("{} has no key", self.named(certificate));
                self.broken(&[certificate, key], what, "set tls.key to the file with its private key");
            }
            (None, Some(_)) => {
                let what = format!("{} has no certificate", self.named(key));
                self.broken(
                    &[certificate, key],
                    what,
                    "set tls.certificate to the file with the certificate",
                );
            }
            _ => {}
        }
        self.acme(config);
        if tls.is_on() {
            self.client_certificates(config);
        } else {
            self.without_tls(config);
        }
    }

    fn acme(&mut self, config: &Config) {
        let tls = &config.tls;
        if tls.acme_domains.is_empty() {
            return;
        }
        let domains = "tls.acme_domains";
        let needs = [
            (
                "tls.certificate",
                tls.certificate.is_some(),
                "set it to the file that the certificate is to be written to",
            ),
            ("tls.key", tls.key.is_some(), "set it to the file that the private key is to be written to"),
            (
                "tls.redirect_addr",
                tls.redirect_addr.is_some(),
                "set it to \":80\", where the authority looks for its proof",
            ),
            (
                "tls.acme_terms_agreed",
                tls.acme_terms_agreed,
                "read the authority's terms of service, and set it to true",
            ),
        ];
        for (key, _, hint) in needs.into_iter().filter(|(_, set, _)| !*set) {
            let what = format!("{} needs {key}", self.named(domains));
            self.broken(&[domains, key], what, hint);
        }
    }

    fn client_certificates(&mut self, config: &Config) {
        let [auth, ca] = ["tls.client_auth", "tls.client_ca"];
        match (config.tls.client_auth, &config.tls.client_ca) {
            (ClientAuth::Optional | ClientAuth::Required, None) => {
                let what =
                    format!("{} needs an authority that client certificates come from", self.named(auth));
                self.broken(&[auth, ca], what, "set tls.client_ca to a PEM file with its certificate");
            }
            (ClientAuth::Off, Some(_)) => {
                let what = format!("{} does nothing while tls.client_auth is off", self.named(ca));
                self.doubtful(&[auth, ca], what, "set tls.client_auth to optional or required");
            }
            _ => {}
        }
    }

    /// What was set for nothing.
    fn without_tls(&mut self, config: &Config) {
        let tls = &config.tls;
        let useless = [
            ("tls.client_ca", tls.client_ca.is_some()),
            ("tls.client_auth", tls.client_auth != ClientAuth::Off),
            ("tls.redirect_addr", tls.redirect_addr.is_some()),
            ("tls.certificates", !tls.certificates.is_empty()),
        ];
        for (key, _) in useless.into_iter().filter(|(_, set)| *set) {
            if tls.key.is_some() {
                return;
            }
            let what = format!("{key} is set, but the server does not speak TLS");
            self.broken(&[key, "tls.certificate"], what, "set tls.certificate and tls.key");
        }
    }

    pub(super) fn proxies(&mut self, config: &Config) {
        let [protocol, trusted] = ["server.proxy_protocol", "server.trusted_proxies"];
        if config.server.proxy_protocol && config.server.trusted_proxies.is_empty() {
            let what = format!("{} lets everybody choose an address to come from", self.named(protocol));
            let hint = "set server.trusted_proxies to the addresses of the load balancers";
            self.broken(&[protocol, trusted], what, hint);
        }
    }
}
