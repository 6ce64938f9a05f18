//! Settings of the whole node: kernel parameters, its name and time, whom it trusts.

use crate::lab::{Lab, failed};

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn settings_of_the_node_hold_now_and_after_a_boot() {
    let lab = Lab::start();
    kernel_settings(&lab);
    name(&lab);
    time(&lab);
    trust(&lab);
}

fn sysctl(key: &str, value: &str, more: &str) -> String {
    format!("[[sysctl]]\nkey = \"{key}\"\nvalue = \"{value}\"\n{more}")
}

fn kernel_settings(lab: &Lab) {
    let live = |key: &str| lab.must(&["sysctl", "-n", key]).trim().to_owned();
    // What a boot does.
    let boot = || lab.must(&["/lib/systemd/systemd-sysctl"]);
    let ports = "net.ipv4.ip_local_reserved_ports";
    lab.applied(&sysctl(ports, "32000,30000-30010,30011", ""));
    assert_eq!(live(ports), "30000-30011,32000");
    lab.applied(&sysctl("net.ipv4.ip_local_port_range", "20000   61000", ""));
    lab.applied(&sysctl("net.ipv4.tcp_fin_timeout", "0x20", ""));
    assert_eq!(live("net.ipv4.tcp_fin_timeout"), "32");

    // Files of others that a boot reads before ours do not win; those that it reads later are said.
    let key = "net.ipv4.tcp_keepalive_time";
    let resource = format!("sysctl.{key}");
    lab.put("/etc/sysctl.d/99-other.conf", &format!("{key} = 7000\n"));
    lab.applied(&sysctl(key, "600", ""));
    boot();
    assert_eq!(live(key), "600");
    lab.put("/etc/sysctl.d/zzz.conf", &format!("# {key} = 1\n-net/ipv4/tcp_keepalive_time = 8000\n"));
    let (status, report) = lab.apply(&sysctl(key, "600", ""));
    let (error, help) = failed(&report, &resource);
    assert!(status == 4 && error.contains("/etc/sysctl.d/zzz.conf sets it to 8000"), "{error}");
    assert!(help.contains("take the line out"), "{help}");
    boot();
    assert_eq!(live(key), "8000", "as it was said");
    lab.must(&["rm", "/etc/sysctl.d/zzz.conf"]);
    lab.applied(&sysctl(key, "600", ""));

    // What the kernel makes another value of, or takes not at all.
    let (status, report) = lab.apply(&sysctl("net.ipv4.ping_group_range", "10 5", ""));
    let (error, help) = failed(&report, "sysctl.net.ipv4.ping_group_range");
    assert!(status == 4 && error.starts_with("the kernel makes 1 0 of"), "{error}");
    assert!(help.contains("write value"), "{help}");
    let (_, report) = lab.apply(&sysctl("net.ipv4.tcp_fin_timeout", "soon", ""));
    assert!(failed(&report, "sysctl.net.ipv4.tcp_fin_timeout").1.contains("takes no `soon`"), "{report:#?}");
    let (_, report) = lab.apply(&sysctl("net.ipv4.tcp_congestion_control", "no-such", ""));
    assert!(failed(&report, "sysctl.net.ipv4.tcp_congestion_control").1.contains("has no `no-such`"), "{report:#?}");
    let (_, report) = lab.apply(&sysctl("kernel.ostype", "Minix", ""));
    assert!(failed(&report, "sysctl.kernel.ostype").0.contains("can be read and not set"), "{report:#?}");
    // Some set others along, and go first; two that exclude each other are not both right.
    lab.must(&["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.disable_ipv6=0"]);
    let along = [
        ("net.ipv4.conf.eth0.forwarding", "1"),
        ("net.ipv4.conf.all.accept_redirects", "0"),
        ("net.ipv4.ip_forward", "0"),
        ("net.ipv6.conf.lo.disable_ipv6", "0"),
        ("net.ipv6.conf.all.disable_ipv6", "1"),
    ];
    lab.applied(&along.map(|(key, value)| sysctl(key, value, "")).concat());
    for (key, value) in along {
        assert_eq!(live(key), value, "{key}");
    }
    lab.applied(&along.map(|(key, value)| sysctl(key, value, "absent = true\n")).concat());
    boot();
    let (_, report) = lab.apply(&sysctl("net.ipv4.route.flush", "1", ""));
    assert!(failed(&report, "sysctl.net.ipv4.route.flush").0.contains("cannot be read"), "{report:#?}");

    let report = lab.applied(&sysctl(key, "600", "absent = true\n"));
    assert!(report.steps[0].detail[0].contains("the value stays until then"), "{report:#?}");
    assert_eq!(live(key), "600");
    boot();
    assert_eq!(live(key), "7000", "what is not ours any more is the others'");

    let file = "/etc/modules-load.d/muster-overlay.conf";
    lab.put(file, "# Written by muster.\noverlay\n");
    let report = lab.applied("[[kernel_module]]\nname = \"overlay\"\nabsent = true\n");
    assert!(report.steps[0].detail[0].contains("stays until then"), "{report:#?}");
    assert_ne!(lab.run(&["test", "-e", file]).0, 0);
}

fn name(lab: &Lab) {
    // Docker mounts a file of its own there.
    lab.must(&["sh", "-ec", "umount /etc/hostname; echo old > /etc/hostname"]);
    let toml = "[[hostname]]\nname = \"bastion.example.org\"\n";
    lab.applied(toml);
    assert_eq!(lab.must(&["uname", "-n"]).trim(), "bastion.example.org");
    assert_eq!(lab.must(&["cat", "/etc/hostname"]), "bastion.example.org\n");
    lab.must(&["sysctl", "-qw", "kernel.hostname=other"]);
    let report = lab.applied(toml);
    assert_eq!(report.drift.len(), 1, "{report:#?}");
    lab.must(&["sh", "-ec", "mkdir -p /etc/kubernetes; touch /etc/kubernetes/kubelet.conf"]);
    assert_eq!(lab.apply(toml).0, 0, "a member may have the name that it has");
    let (status, report) = lab.apply(&toml.replace("bastion", "other"));
    let (error, help) = failed(&report, "hostname.other.example.org");
    assert!(status == 4 && error.contains("member of a cluster") && !help.is_empty(), "{error}");
    assert_eq!(lab.must(&["uname", "-n"]).trim(), "bastion.example.org");
    lab.must(&["rm", "-r", "/etc/kubernetes"]);
}

fn time(lab: &Lab) {
    let toml = "[[timezone]]\nname = \"Asia/Tokyo\"\n";
    lab.applied(toml);
    assert_eq!(lab.must(&["date", "+%Z"]).trim(), "JST");
    assert!(lab.must(&["timedatectl", "show", "--property=Timezone"]).contains("=Asia/Tokyo"));
    assert_eq!(lab.must(&["cat", "/etc/timezone"]), "Asia/Tokyo\n");
    // As timedatectl writes it, it is right; by hand to another, it is not.
    lab.must(&["ln", "-sfn", "../usr/share/zoneinfo/Asia/Tokyo", "/etc/localtime"]);
    assert_eq!(lab.apply(toml).0, 0);
    lab.must(&["ln", "-sfn", "/usr/share/zoneinfo/Etc/UTC", "/etc/localtime"]);
    let report = lab.applied(toml);
    assert_eq!(report.drift.len(), 1, "{report:#?}");
    let (status, report) = lab.apply("[[timezone]]\nname = \"Europe/Nowhere\"\n");
    let (error, help) = failed(&report, "timezone.Europe/Nowhere");
    assert!(status == 4 && error.contains("no time zone") && help.contains("timedatectl"), "{error}");
    // A folder of zones is none.
    failed(&lab.apply("[[timezone]]\nname = \"Europe\"\n").1, "timezone.Europe");
    assert_eq!(lab.must(&["date", "+%Z"]).trim(), "JST");
}

fn trust(lab: &Lab) {
    let certificate = |n: u8| {
        let make =
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout /dev/null -days 30";
        lab.must(&["sh", "-ec", &format!("{make} -subj '/CN=Try {n}' 2>/dev/null")])
    };
    // OpenSSL's own word, by the folder of hashed names and by the bundle.
    let trusted = |pem: &str| {
        lab.put("/root/try.pem", pem);
        let by = |how: &[&str]| lab.run(&[&["openssl", "verify"], how, &["/root/try.pem"]].concat()).0 == 0;
        let bundle = "/etc/ssl/certs/ca-certificates.crt";
        (by(&["-no-CAfile", "-CApath", "/etc/ssl/certs"]), by(&["-no-CApath", "-CAfile", bundle]))
    };
    let toml = |n: usize, pem: &str| format!("[[ca_certificate]]\nname = \"try-{n}\"\ncontent = \"\"\"\n{pem}\"\"\"\n");
    let all: Vec<String> = (0..4).map(certificate).collect();
    assert_eq!(trusted(&all[0]), (false, false));
    lab.applied(&all.iter().enumerate().map(|(n, pem)| toml(n, pem)).collect::<String>());
    for pem in &all {
        assert_eq!(trusted(pem), (true, true));
    }
    // Another one under the name of the first.
    let other = certificate(9);
    lab.applied(&toml(0, &other));
    assert_eq!((trusted(&other), trusted(&all[0])), ((true, true), (false, false)));
    // Lost from the bundle by hand, and the beginning of one that was never finished.
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    lab.must(&["sh", "-ec", &format!("echo > {bundle}; echo junk > {bundle}.new")]);
    lab.applied(&toml(0, &other));
    assert_eq!(trusted(&other), (true, true));
    assert!(!lab.must(&["cat", bundle]).contains("junk"));
    let gone = |n: usize| format!("[[ca_certificate]]\nname = \"try-{n}\"\nabsent = true\n");
    // Somebody trusts it, too, under another name.
    let theirs = "/usr/local/share/ca-certificates/theirs.crt";
    lab.must(&[
        "sh",
        "-ec",
        &format!("cp /usr/local/share/ca-certificates/try-0.crt {theirs}; update-ca-certificates"),
    ]);
    lab.applied(&gone(0));
    assert_eq!(trusted(&other), (true, true));
    lab.must(&["sh", "-ec", &format!("rm {theirs}; update-ca-certificates --fresh")]);
    lab.applied(&(1..4).map(gone).collect::<String>());
    assert_eq!(lab.must(&["find", "/etc/ssl/certs", "-xtype", "l"]), "", "links that lead nowhere");
    for pem in all.iter().chain([&other]) {
        assert_eq!(trusted(pem), (false, false));
    }
    assert_eq!(lab.must(&["ls", "-A", "/usr/local/share/ca-certificates"]), "");
}
