#!/bin/bash
# The peer of `muster up`: the same cluster and application by a bare script, as quick as one can be written.
#
# The same images, caches, packages, kubeadm calls and manifests. What can run side by side does: the nodes boot and install
# together, control planes pull while packages of others install, and all four joins start as soon as `init` has ended. Only
# etcd takes one member at a time: of two `kubeadm join` at once the second gets a list of members that lacks the first.
# It checks nothing, repairs nothing and cannot be run twice: that is what it is measured without.
#
# usage: up.sh FOLDER    with artefacts in the environment (see bench/up.rs); FOLDER takes logs and scratch files
set -euo pipefail

work=$1
name=muster-bench
label=muster-bench=1
net=${SUBNET_PREFIX:?}         # 10.89
api=$net.0.10 web=$net.0.11 depot=$net.0.3
declare -A address=([control-plane-1]=$net.1.1 [control-plane-2]=$net.1.2 [control-plane-3]=$net.1.3 [workers-1]=$net.1.4 [workers-2]=$net.1.5)
declare -A pods=([control-plane-1]=10.244.0 [control-plane-2]=10.244.1 [control-plane-3]=10.244.2 [workers-1]=10.244.3 [workers-2]=10.244.4)
nodes="control-plane-1 control-plane-2 control-plane-3 workers-1 workers-2"

phase() { printf 'phase %s %s\n' "$1" "$(date +%s.%N)"; }
on() { docker exec "$name-$1" "${@:2}"; }
put() { docker exec -i "$name-$1" sh -c 'mkdir -p "$(dirname "$0")"; cat >"$0"' "$2"; }

run() { # NAME ADDRESS ARGS...: a container of the set
    local container=$1 ip=$2; shift 2
    docker run --detach --label "$label" --name "$name-$container" --hostname "$container" --network "$name" --ip "$ip" "$@" >/dev/null
}

exec 3>&1
phase start
docker network create --label "$label" --subnet "$net.0.0/16" --gateway "$net.0.1" "$name" >/dev/null
docker volume create --label "$label" "$name-disk" >/dev/null

cat >"$work/nginx.conf" <<EOF
daemon off; pid /run/nginx.pid; events {} http { sendfile on; access_log off; server { listen 80; location /debian/ { alias /srv/debian/; } } }
EOF
cat >"$work/registry.yml" <<EOF
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: /srv/registry}, maintenance: {readonly: {enabled: true}, uploadpurging: {enabled: false}}, cache: {blobdescriptor: inmemory}}
http: {addr: ":5000"}
EOF
balancer() { # FILE MODE LISTEN PORT CHECK SERVER-OPTIONS NODES...
    local file=$1 mode=$2 listen=$3 port=$4 check=$5 options=$6; shift 6
    { printf 'global\n  ssl-server-verify none\ndefaults\n  mode %s\n  timeout connect 1s\n  timeout client 1h\n  timeout server 1h\n' "$mode"
      printf 'frontend front\n  bind :%s\n  default_backend nodes\nbackend nodes\n  option httpchk GET %s\n' "$listen" "$check"
      printf '  default-server check inter 500ms fall 2 rise 1 %s\n' "$options"
      for node; do printf '  server %s %s:%s\n' "$node" "${address[$node]}" "$port"; done; } >"$file"
}
balancer "$work/api.cfg" tcp 6443 6443 /readyz "check-ssl verify none" control-plane-1 control-plane-2 control-plane-3
balancer "$work/web.cfg" http 80 30080 /ready "" workers-1 workers-2

services() {
    run depot "$depot" --volume "$APT_REPOSITORY:/srv/debian:ro" --volume "$REGISTRY:/srv/registry:ro" --volume "$work:/bench:ro" \
        "$SERVICES_IMAGE" sh -c 'nginx -c /bench/nginx.conf & exec docker-registry serve /bench/registry.yml'
    run api "$api" --volume "$work/api.cfg:/api.cfg:ro" "$SERVICES_IMAGE" haproxy -W -f /api.cfg
    run web "$web" --volume "$work/web.cfg:/web.cfg:ro" "$SERVICES_IMAGE" haproxy -W -f /web.cfg
}

cat >"$work/containerd.toml" <<EOF
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:$PAUSE"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    discard_unpacked_layers = true
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
EOF

settings() { # kubelet's and kube-proxy's
    cat <<EOF
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: systemd
serializeImagePulls: false
failSwapOn: false
resolvConf: /etc/kubernetes/resolv.conf
featureGates: {KubeletInUserNamespace: true}
evictionHard: {nodefs.available: 1Gi, imagefs.available: 1Gi, nodefs.inodesFree: 1%, memory.available: 100Mi}
imageGCHighThresholdPercent: 99
imageGCLowThresholdPercent: 98
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
conntrack: {maxPerCore: 0}
EOF
}
registration() { # NODE
    local more=
    # kubeadm taints a control plane last, when pods may be on it already.
    case $1 in control-plane-[23]) more=', {name: register-with-taints, value: "node-role.kubernetes.io/control-plane:NoSchedule"}' ;; esac
    cat <<EOF
nodeRegistration:
  name: $1
  criSocket: unix:///run/containerd/containerd.sock
  imagePullSerial: false
  kubeletExtraArgs: [{name: node-ip, value: "${address[$1]}"}$more]
  ignorePreflightErrors: [Swap, SystemVerification, FileContent--proc-sys-net-bridge-bridge-nf-call-iptables]
EOF
}
cluster() {
    cat <<EOF
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v$KUBERNETES
controlPlaneEndpoint: $api:6443
encryptionAlgorithm: ECDSA-P256
networking: {podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/12}
# By the load balancer kubelets get their certificates at once; by their own API server only after half a minute.
featureGates: {ControlPlaneKubeletLocalMode: false}
controllerManager: {extraArgs: [{name: allocate-node-cidrs, value: "false"}, {name: pvclaimbinder-sync-period, value: 2s}]}
etcd: {local: {dataDir: /var/lib/etcd, extraArgs: [{name: max-learners, value: "2"}]}}
EOF
}

prepare() { # NODE: from nothing to a node that kubeadm can be called on
    local node=$1 other disk=()
    [ "$node" = workers-1 ] && disk=(--volume "$name-disk:/var/lib/muster/disks/easypay")
    # shellcheck disable=SC2086
    run "$node" "${address[$node]}" $CAPABILITIES --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
        --security-opt systempaths=unconfined --device-cgroup-rule 'a *:* rwm' --cgroupns private --stop-signal SIGRTMIN+3 \
        --tmpfs /run:exec,mode=755 --tmpfs /run/lock:mode=1777 --tmpfs /tmp:exec,mode=1777 --volume /var "${disk[@]}" \
        "$NODE_IMAGE" /sbin/init
    on "$node" mkdir -p /etc/docker /etc/containerd/certs.d/_default /etc/cni/net.d /etc/kubernetes/manifests /etc/apt/keyrings
    put "$node" /etc/containerd/config.toml <"$work/containerd.toml"
    printf '[host."http://%s:5000"]\n  capabilities = ["pull", "resolve"]\n' "$depot" | put "$node" /etc/containerd/certs.d/_default/hosts.toml
    printf '{"registry-mirrors": ["http://%s:5000"], "insecure-registries": ["%s:5000"]}\n' "$depot" "$depot" | put "$node" /etc/docker/daemon.json
    printf 'nameserver %s\n' "$depot" | put "$node" /etc/kubernetes/resolv.conf
    put "$node" /etc/apt/keyrings/key.asc <"$APT_KEY"
    printf 'Types: deb\nURIs: http://%s/debian\nSuites: muster\nComponents: main\nSigned-By: /etc/apt/keyrings/key.asc\n' "$depot" \
        | put "$node" /etc/apt/sources.list.d/kubernetes.sources
    printf '{"cniVersion":"0.4.0","name":"pods","plugins":[{"type":"ptp","mtu":1500,"ipam":{"type":"host-local","ranges":[[{"subnet":"%s.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},{"type":"portmap","capabilities":{"portMappings":true}}]}\n' \
        "${pods[$node]}" | put "$node" /etc/cni/net.d/10-pods.conflist
    until on "$node" test -S /run/systemd/private; do sleep 0.1; done
    phase booted >&3
    # shellcheck disable=SC2016
    on "$node" sh -ec '
        mount -o remount,rw /sys; mount -o remount,rw /sys/fs/cgroup || true
        while read -r _ where kind _; do case $kind in cgroup|cgroup2) mount -o remount,bind,rw "$where";; esac; done </proc/mounts
        mount --make-rshared /; [ -e /dev/kmsg ] || mknod /dev/kmsg c 1 11
        sysctl -qw net.ipv4.ip_forward=1 fs.inotify.max_user_instances=8192
        nft "add table ip nat-pods; add chain ip nat-pods post { type nat hook postrouting priority srcnat; }; add rule ip nat-pods post ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 masquerade"'
    for other in $nodes; do
        [ "$other" = "$node" ] || on "$node" ip route replace "${pods[$other]}.0/24" via "${address[$other]}"
    done
    on "$node" sh -ec 'export DEBIAN_FRONTEND=noninteractive
        apt-get -qq update
        apt-get -qq install --no-install-recommends -o Dpkg::Options::=--force-confold --yes "$@" >/dev/null
        systemctl enable --quiet kubelet' sh \
        docker.io containerd runc containernetworking-plugins "kubelet=$KUBERNETES-*" "kubeadm=$KUBERNETES-*" "kubectl=$KUBERNETES-*"
}

services &
for node in $nodes; do
    (
        prepare "$node"
        touch "$work/ready-$node"
        case $node in
            control-plane-1) ;; # init pulls by itself
            control-plane-*) { registration "$node" | sed '1i apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration'; cluster; } | put "$node" /run/pull.yaml
                on "$node" kubeadm config images pull --config /run/pull.yaml >/dev/null 2>&1 ;;
            *) for image in "registry.k8s.io/kube-proxy:v$KUBERNETES" "registry.k8s.io/pause:$PAUSE" docker.io/library/easypay-web:1.4.0; do
                   on "$node" ctr --namespace k8s.io images pull --hosts-dir /etc/containerd/certs.d "$image" >/dev/null & done
               # The database runs where the disk is.
               [ "$node" = workers-2 ] || on "$node" ctr --namespace k8s.io images pull --hosts-dir /etc/containerd/certs.d docker.io/library/postgres:15 >/dev/null
               wait ;;
        esac
    ) >>"$work/$node.log" 2>&1 &
done

until [ -e "$work/ready-control-plane-1" ]; do sleep 0.1; done
phase init
{
    printf 'apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nlocalAPIEndpoint: {advertiseAddress: %s}\nbootstrapTokens: [{token: %s}]\ncertificateKey: %s\n' \
        "${address[control-plane-1]}" "$TOKEN" "$CERTIFICATE_KEY"
    registration control-plane-1
    cluster
    settings
} | put control-plane-1 /run/init.yaml
on control-plane-1 kubeadm init --config /run/init.yaml --upload-certs >>"$work/init.log" 2>&1
phase joins
kubectl() { on control-plane-1 kubectl --kubeconfig /etc/kubernetes/admin.conf "$@"; }

join() { # NODE
    local node=$1
    until [ -e "$work/ready-$node" ]; do sleep 0.1; done
    {
        printf 'apiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\ndiscovery: {bootstrapToken: {token: %s, apiServerEndpoint: "%s:6443", unsafeSkipCAVerification: true}}\n' "$TOKEN" "$api"
        registration "$node"
        case $node in control-plane-*) printf 'controlPlane: {localAPIEndpoint: {advertiseAddress: %s}, certificateKey: %s}\n' "${address[$node]}" "$CERTIFICATE_KEY" ;; esac
    } | put "$node" /run/join.yaml
    case $node in
        control-plane-*)
            on "$node" kubeadm join --config /run/join.yaml --skip-phases "control-plane-prepare/control-plane,check-etcd,$last"
            exec 9>"$work/etcd"; flock 9
            on "$node" kubeadm join phase control-plane-prepare control-plane --config /run/join.yaml
            on "$node" kubeadm join phase control-plane-join etcd --config /run/join.yaml
            exec 9>&-
            on "$node" kubeadm join --config /run/join.yaml --skip-phases preflight,control-plane-prepare,check-etcd,kubelet-start,control-plane-join/etcd ;;
        *) on "$node" kubeadm join --config /run/join.yaml ;;
    esac
}
last=kubelet-wait-bootstrap,control-plane-join,wait-control-plane
joining=()
for node in control-plane-2 control-plane-3 workers-1 workers-2; do
    join "$node" >>"$work/$node.log" 2>&1 &
    joining+=($!)
done
put control-plane-1 /run/app.yaml <"$MANIFESTS"
kubectl apply -f /run/app.yaml >/dev/null
until kubectl label node workers-1 muster.dev/disk-easypay=true >/dev/null 2>&1; do sleep 0.3; done
until [ "$(kubectl get nodes --no-headers 2>/dev/null | grep -cw Ready)" = 5 ]; do sleep 0.3; done
wait "${joining[@]}"
phase ready
until curl --silent --fail --max-time 2 --output /dev/null "http://$web/"; do sleep 0.2; done
phase answers
