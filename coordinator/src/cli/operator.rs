//! `muster operator …`: who may use the coordinator.

use muster_proto::{
    Clock as _, Serial, SystemClock,
    v1::{self, revoke_operator_request::Whose},
};
use serde_json::{Value, json};

use super::{
    Ended,
    args::{Global, OperatorCommand},
    change, failure, look, render,
};

/// Runs one of them.
pub async fn run(global: &Global, command: OperatorCommand) -> anyhow::Result<Ended> {
    let Some(mut client) = look::client(global).await? else { return Ok(Ended::Error) };
    match command {
        OperatorCommand::List => {
            let reply = client.list_operators(v1::ListOperatorsRequest {}).await.map_err(failure)?.into_inner();
            if global.json {
                render::print_json(&reply.certificates.iter().map(value).collect::<Vec<_>>())?;
            } else {
                let now = SystemClock.now();
                let rows: Vec<_> = reply.certificates.iter().map(|certificate| cells(certificate, now)).collect();
                render::put(render::table(&["operator", "role", "serial", "issued", "state"], &rows));
            }
        }
        OperatorCommand::Revoke { whose, force } => {
            if !change::agreed(global, &format!("Refuse the certificates of {whose} from now on?"))? {
                return render::unchanged(global.json).map(|()| Ended::Good);
            }
            let request = v1::RevokeOperatorRequest { whose: Some(meant(&whose)), force };
            let reply = client.revoke_operator(request).await.map_err(failure)?.into_inner();
            let text = match reply.revoked.len() {
                1 => format!("One certificate of {whose} is refused from now on."),
                many => format!("{many} certificates of {whose} are refused from now on."),
            };
            let revoked: Vec<_> = reply.revoked.iter().map(value).collect();
            render::tell(global.json, &json!({ "revoked": revoked }), text)?;
        }
    }
    Ok(Ended::Good)
}

/// A serial number begins with a digit, a name with a letter.
fn meant(whose: &str) -> Whose {
    match whose.parse::<Serial>() {
        Ok(serial) => Whose::Serial(serial.to_string()),
        Err(_) => Whose::Name(whose.to_owned()),
    }
}

fn value(certificate: &v1::OperatorCertificate) -> Value {
    let v1::OperatorCertificate { name, role, serial, issued, not_after, revoked_at, revoked_by } = certificate;
    let revoked = (*revoked_at != 0).then(|| json!({ "at": revoked_at, "by": revoked_by }));
    json!({
        "name": name, "role": role, "serial": serial, "issued": issued, "not_after": not_after, "revoked": revoked,
    })
}

fn cells(certificate: &v1::OperatorCertificate, now: i64) -> Vec<String> {
    let v1::OperatorCertificate { name, role, serial, issued, not_after, revoked_at, revoked_by } = certificate;
    let state = match *not_after {
        _ if *revoked_at != 0 => format!("revoked {} by {revoked_by}", moment(*revoked_at)),
        end if end < now => format!("ended {}", moment(end)),
        end => format!("good until {}", moment(end)),
    };
    vec![name.clone(), role.clone(), serial.clone(), moment(*issued), state]
}

/// Of this machine's time zone.
fn moment(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(not_after: i64, revoked_at: i64) -> v1::OperatorCertificate {
        v1::OperatorCertificate {
            name: "dana".to_owned(),
            role: "apply".to_owned(),
            serial: "7f".repeat(16),
            issued: 1,
            not_after,
            revoked_at,
            revoked_by: if revoked_at == 0 { String::new() } else { "erin".to_owned() },
        }
    }

    #[test]
    fn a_name_is_told_from_a_serial_number() {
        assert_eq!(meant("dana"), Whose::Name("dana".to_owned()));
        assert_eq!(meant(&"7f".repeat(16)), Whose::Serial("7f".repeat(16)));
        // No name either: the coordinator says so.
        assert_eq!(meant("7f7f"), Whose::Name("7f7f".to_owned()));
    }

    #[test]
    fn a_certificate_is_good_ended_or_revoked() {
        let state = |not_after, revoked_at| cells(&certificate(not_after, revoked_at), 100).pop().unwrap();
        assert!(state(100, 0).starts_with("good until 1970-"));
        assert!(state(99, 0).starts_with("ended 1970-"));
        assert!(state(100, 9).starts_with("revoked 1970-") && state(99, 9).ends_with(" by erin"));
        assert_eq!(value(&certificate(100, 0))["revoked"], Value::Null);
        assert_eq!(value(&certificate(100, 9))["revoked"], json!({ "at": 9, "by": "erin" }));
    }
}
