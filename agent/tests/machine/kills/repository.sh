# Small packages to be had on the node, beside its other sources.
[ -e /srv/repo/Packages ] || {
    set +u
    . /root/kills/make.sh
    pkg klib 1.0-1
    pkg kapp 1.0-1 'Depends: klib\n' 'echo configured >>/usr/share/kapp/version'
    pkg kheld 1.0-1
    pkg kheld 2.0-1
    pkg kgone 1.0-1
    daemon kd 1.0-1
    daemon kd 2.0-1
    index
}
