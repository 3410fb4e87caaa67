//! The proxy that the environment sets for HTTPS, checked at the start: the HTTP client would ignore a variable that it
//! can't read, and send requests past the proxy.

use reqwest::{NoProxy, Proxy};
use url::Url;

/// The variables, the first one with a value wins. As for curl, `NO_PROXY` excludes hosts.
const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Returns the proxy; `None`: no variable is set.
///
/// # Errors
/// A message that names the variable, not its value, which may hold a password.
pub(super) fn from_environment() -> Result<Option<Proxy>, String> {
    let mut set = VARIABLES.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let Some((name, value)) = set.find(|(_, value)| !value.is_empty()) else { return Ok(None) };
    let url = value.to_str().ok_or_else(|| unusable(name, "isn't text")).and_then(|value| parse(name, value))?;
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
    tracing::info!("requests go through the proxy {host}:{port} ({name}), unless NO_PROXY excludes the API's host");
    let proxy = Proxy::https(url.clone()).map_err(|_| unusable(name, "isn't a URL"))?;
    Ok(Some(proxy.no_proxy(NoProxy::from_env())))
}

fn parse(name: &str, value: &str) -> Result<Url, String> {
    let value = value.trim();
    let url = if value.contains("://") { Url::parse(value) } else { Url::parse(&format!("http://{value}")) };
    let url = url.map_err(|_| unusable(name, "isn't a URL"))?;
    match url.scheme() {
        "http" | "https" if url.host_str().is_some_and(|host| !host.is_empty()) => Ok(url),
        "http" | "https" => Err(unusable(name, "names no host")),
        "socks4" | "socks4a" | "socks5" | "socks5h" => {
            Err(unusable(name, "names a SOCKS proxy, which isn't supported"))
        }
        _ => Err(unusable(name, "names no HTTP proxy")),
    }
}

fn unusable(name: &str, problem: &str) -> String {
    format!(
        "{name} {problem}: set it to http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT with special characters \
         percent-encoded, or unset it to use no proxy"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_url_or_a_host_and_a_port() {
        for value in
            ["http://proxy.example:3128", "proxy.example:3128", " http://u:p%40ss@10.0.0.7:8080/ ", "[::1]:3128"]
        {
            assert!(parse("HTTPS_PROXY", value).is_ok(), "{value}");
        }
    }

    #[test]
    fn an_unusable_variable_is_named_and_its_value_is_not() {
        for (value, problem) in [
            ("http://user:secret@proxy.example:port", "isn't a URL"),
            ("http://user:sec ret@", "isn't a URL"),
            ("socks5://user:secret@proxy.example", "names a SOCKS proxy"),
            ("ftp://user:secret@proxy.example", "names no HTTP proxy"),
        ] {
            let error = parse("ALL_PROXY", value).unwrap_err();
            assert!(error.starts_with(&format!("ALL_PROXY {problem}")), "{error}");
            assert!(!error.contains("secret") && !error.contains("sec ret"), "{error}");
        }
    }
}
