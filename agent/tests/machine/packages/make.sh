#!/bin/sh
# Tiny packages in a flat repository below /srv/repo, and nothing else in the node's sources.
set -e
mkdir -p /srv/repo /root/deb
cd /root/deb

# pkg NAME VERSION [CONTROL [POSTINST]]: more lines of its control file, and its script.
pkg() {
    d=/root/deb/$1
    rm -rf "$d"
    mkdir -p "$d/DEBIAN" "$d/usr/share/$1"
    echo "$2" >"$d/usr/share/$1/version"
    printf 'Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: x <x@example.org>\nDescription: x\n%b' "$1" "$2" "${ARCH:-all}" "$3" >"$d/DEBIAN/control"
    if [ -n "$4" ]; then
        printf '#!/bin/sh\n%s\n' "$4" >"$d/DEBIAN/postinst"
        chmod 755 "$d/DEBIAN/postinst"
    fi
    deb "$1" "$2"
}
deb() {
    dpkg-deb --root-owner-group -Zgzip --build "/root/deb/$1" "/srv/repo/$1_$(echo "$2" | sed 's/:/%3a/')_${ARCH:-all}.deb" >/dev/null
}

# daemon NAME VERSION [UPGRADE]: with the scripts of debhelper. UPGRADE `stops`: it is stopped before and started after.
daemon() {
    d=/root/deb/$1
    rm -rf "$d"
    mkdir -p "$d/DEBIAN" "$d/usr/sbin" "$d/lib/systemd/system"
    printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n' "$1" "$2" >"$d/DEBIAN/control"
    printf '#!/bin/sh\necho %s >/run/%s.version\nexec sleep infinity\n' "$2" "$1" >"$d/usr/sbin/$1"
    chmod 755 "$d/usr/sbin/$1"
    printf '[Service]\nExecStart=/usr/sbin/%s\n[Install]\nWantedBy=multi-user.target\n' "$1" >"$d/lib/systemd/system/$1.service"
    stop='"$1" = remove'
    again=restart
    [ -z "$3" ] || { stop='-n "$1"'; again=start; }
    cat >"$d/DEBIAN/postinst" <<X
#!/bin/sh
set -e
if [ "\$1" = configure ]; then
    deb-systemd-helper unmask $1.service >/dev/null || true
    if deb-systemd-helper --quiet was-enabled $1.service; then deb-systemd-helper enable $1.service >/dev/null || true; fi
    systemctl --system daemon-reload >/dev/null || true
    if [ -n "\$2" ]; then a=$again; else a=start; fi
    deb-systemd-invoke \$a $1.service >/dev/null || true
    if [ -n "\$2" ] && [ -e /run/kill-the-agent ]; then rm /run/kill-the-agent; kill -9 \$(pidof muster-agent); fi
fi
X
    printf '#!/bin/sh\nset -e\nif [ %s ]; then deb-systemd-invoke stop %s.service >/dev/null || true; fi\n' "$stop" "$1" >"$d/DEBIAN/prerm"
    cat >"$d/DEBIAN/postrm" <<X
#!/bin/sh
set -e
systemctl --system daemon-reload >/dev/null || true
if [ "\$1" = remove ]; then deb-systemd-helper mask $1.service >/dev/null || true; fi
X
    chmod 755 "$d/DEBIAN"/p*
    deb "$1" "$2"
}

index() {
    cd /srv/repo
    for f in *.deb; do
        dpkg-deb --field "$f"
        printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$f" "$(stat -c %s "$f")" "$(sha256sum "$f" | cut -d' ' -f1)"
    done >Packages
    rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
    echo 'deb [trusted=yes] file:/srv/repo ./' >/etc/apt/sources.list.d/try.list
    apt-get update --quiet=2
}
