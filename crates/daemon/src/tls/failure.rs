//! Why a connection could not be made safe, in words that tools already look for.

use jiff::Timestamp;
use rustls::CertificateError;
use rustls::pki_types::UnixTime;
use std::error::Error;
use std::io;

/// An error with its causes, in one line; a [failure of TLS itself](refusal) alone.
pub fn failure(error: &(dyn Error + 'static)) -> String {
    refusal(error).unwrap_or_else(|| {
        let mut text = error.to_string();
        for cause in causes(error).skip(1) {
            let added = cause.to_string();
            // Some libraries repeat their cause in their own text.
            if !text.ends_with(&added) {
                text.push_str(": ");
                text.push_str(&added);
            }
        }
        text
    })
}

/// A failure of TLS itself, however deep it sits, as the reference says it: `tls: failed to verify certificate: …`,
/// `remote error: tls: …`. `None` when the error is about something else.
pub fn refusal(error: &(dyn Error + 'static)) -> Option<String> {
    causes(error).find_map(tls_in).map(said)
}

/// The error, its cause, and so on.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'e (dyn Error + 'static)| (*error).source())
}

fn tls_in<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let mut inner: &(dyn Error + 'static) = error;
    // An I/O error does not give what it wraps as its source, and may wrap another of its kind.
    while let Some(wrapped) = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        inner = wrapped;
    }
    inner.downcast_ref()
}

fn said(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(cause) => {
            let cause = out_of_time(cause).unwrap_or_else(|| cause.to_string());
            format!("tls: failed to verify certificate: x509: {cause}")
        }
        rustls::Error::AlertReceived(alert) => format!("remote error: tls: {alert:?}"),
        other => format!("tls: {other}"),
    }
}

/// It was valid once, or will be; or somebody's clock is wrong.
fn out_of_time(cause: &CertificateError) -> Option<String> {
    let (time, when, limit) = match cause {
        CertificateError::ExpiredContext { time, not_after } => (time, "after", not_after),
        CertificateError::NotValidYetContext { time, not_before } => (time, "before", not_before),
        _ => return None,
    };
    let shown = |time: &UnixTime| {
        let seconds = i64::try_from(time.as_secs()).ok()?;
        Timestamp::from_second(seconds).ok()
    };
    Some(format!(
        "certificate has expired or is not yet valid: current time {} is {when} {}; if the certificate should be valid, set the clock of \
         this machine right",
        shown(time)?,
        shown(limit)?
    ))
}
