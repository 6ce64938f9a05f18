case $1 in --*) shift ;; esac
name=$1
action=${2#(}
action=${action%)}
[ -d /run/systemd/system ] || exit 101
show() {
    systemctl show --property=Id --property=ActiveState --property=CanReload --property=InvocationID -- "$1" 2>/dev/null | tr '\n' ' '
}
case $action in
    status | reload) exit 0 ;;
    stop) case $goes in *" $DPKG_MAINTSCRIPT_PACKAGE "*) exit 0 ;; esac ;;
    force-reload) case $(show "$name") in *CanReload=yes*) exit 0 ;; esac ;;
    restart | try-restart | condrestart | reload-or-restart | try-reload-or-restart) ;;
    *) exit 101 ;;
esac
units=$name
pid=$PPID
for level in 1 2 3; do
    line=$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline")
    case $line in
        *deb-systemd-invoke*" $action "*)
            units=${line##*" $action "}
            break
            ;;
    esac
    pid=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null)
    [ "${pid:-0}" -gt 1 ] || break
done
for unit in $units; do
    state=$(show "$unit")
    case $state in
        *ActiveState=active* | *ActiveState=activating* | *ActiveState=reloading*)
            printf '%s %s\n' "${DPKG_MAINTSCRIPT_PACKAGE:-unknown}" "$state" >>"$owed"
            ;;
    esac
done
exit 101
