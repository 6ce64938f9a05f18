//! The Kubernetes objects of an application.
//!
//! NetworkPolicy objects are made from `allow_from`; whether they are enforced is the pod network's matter.

use std::collections::BTreeSet;

use muster_ids::AppName;
use serde_json::{Value as Json, json};

use super::{App, AppTable, ComponentTable, Probe};
use crate::{
    kinds::{cluster_member::MemberRole, manifest::ManifestSpec},
    schema::Sorted,
    site::{Pool, Site},
    template::Engine,
};

/// Where secrets are mounted.
const SECRETS: &str = "/run/secrets/muster";

pub(super) fn manifest(name: &AppName, app: &App, table: &AppTable, site: &Site, engine: &Engine<'_>) -> ManifestSpec {
    let namespace = table.namespace.clone().unwrap_or_else(|| app.namespace.clone());
    let maker = Maker { app: name, namespace: &namespace, site, engine };
    let mut objects = vec![maker.namespace_object()];
    let mut secrets = BTreeSet::new();
    for (component, spec) in &table.components {
        secrets.extend(spec.secrets.values().cloned());
        maker.component(component, spec, &mut objects);
    }
    let documents: Vec<String> =
        objects.iter().map(|o| serde_yaml_ng::to_string(&Sorted(o)).unwrap_or_default()).collect();
    ManifestSpec {
        secrets: secrets.into_iter().collect(),
        ..ManifestSpec::set(&super::set(name), documents.join("---\n"))
    }
}

struct Maker<'a> {
    app: &'a AppName,
    namespace: &'a str,
    site: &'a Site,
    engine: &'a Engine<'a>,
}

impl Maker<'_> {
    fn namespace_object(&self) -> Json {
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": self.namespace,
                "labels": {
                    "app.kubernetes.io/part-of": self.app,
                    "pod-security.kubernetes.io/enforce": "restricted",
                    "pod-security.kubernetes.io/warn": "restricted",
                },
            },
        })
    }

    fn component(&self, name: &AppName, spec: &ComponentTable, objects: &mut Vec<Json>) {
        if !spec.secrets.is_empty() {
            objects.push(self.secret(name, spec));
        }
        if let Some(disk) = &spec.disk {
            objects.extend(self.volume(name, disk.name.as_str()));
        }
        if spec.allow_from.is_some() {
            objects.push(self.policy(name, spec));
        }
        if let Some(port) = spec.port {
            objects.push(self.service(name, spec, port));
        }
        objects.push(self.workload(name, spec));
        if spec.replicas > 1 {
            objects.push(json!({
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": self.metadata(name),
                // A pod that serves nobody holds up no drain.
                "spec": {
                    "maxUnavailable": 1,
                    "unhealthyPodEvictionPolicy": "AlwaysAllow",
                    "selector": { "matchLabels": self.selector(name) },
                },
            }));
        }
    }

    fn selector(&self, name: &AppName) -> Json {
        json!({ "app.kubernetes.io/part-of": self.app, "app.kubernetes.io/name": name })
    }

    fn metadata(&self, name: &AppName) -> Json {
        json!({ "name": name, "namespace": self.namespace, "labels": self.selector(name) })
    }

    fn secret(&self, name: &AppName, spec: &ComponentTable) -> Json {
        let data: serde_json::Map<String, Json> =
            spec.secrets.iter().map(|(key, secret)| (key.clone(), format!("muster-secret:{secret}").into())).collect();
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": self.metadata(name), "type": "Opaque", "data": data })
    }

    /// The disk follows a label of the node that holds it, not the node's name.
    fn volume(&self, name: &AppName, disk: &str) -> [Json; 2] {
        let volume = format!("disk-{disk}");
        let size = self.site.disks.iter().find(|(d, _)| d.as_str() == disk).map_or(0, |(_, d)| d.size);
        [
            json!({
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": { "name": volume, "labels": self.selector(name) },
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "capacity": { "storage": size.to_string() },
                    "claimRef": {
                        "apiVersion": "v1",
                        "kind": "PersistentVolumeClaim",
                        "name": name,
                        "namespace": self.namespace,
                    },
                    "local": { "path": format!("/var/lib/muster/disks/{disk}") },
                    "nodeAffinity": { "required": { "nodeSelectorTerms": [ { "matchExpressions": [
                        { "key": format!("muster.dev/disk-{disk}"), "operator": "In", "values": ["true"] },
                    ] } ] } },
                    "persistentVolumeReclaimPolicy": "Retain",
                    "storageClassName": "",
                    "volumeMode": "Filesystem",
                },
            }),
            json!({
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": self.metadata(name),
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": { "requests": { "storage": size.to_string() } },
                    "storageClassName": "",
                    "volumeName": volume,
                },
            }),
        ]
    }

    fn policy(&self, name: &AppName, spec: &ComponentTable) -> Json {
        let ports: Vec<Json> = spec.port.iter().map(|port| json!({ "port": port, "protocol": "TCP" })).collect();
        let mut ingress = Vec::new();
        if spec.endpoint.is_some() {
            ingress.push(json!({ "ports": ports }));
        }
        let from: Vec<Json> = spec
            .allow_from
            .iter()
            .flatten()
            .map(|peer| json!({ "podSelector": { "matchLabels": self.selector(peer) } }))
            .collect();
        if !from.is_empty() {
            ingress.push(json!({ "from": from, "ports": ports }));
        }
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": self.metadata(name),
            "spec": {
                "podSelector": { "matchLabels": self.selector(name) },
                "policyTypes": ["Ingress"],
                "ingress": ingress,
            },
        })
    }

    fn service(&self, name: &AppName, spec: &ComponentTable, port: u16) -> Json {
        let endpoint = spec.endpoint.as_ref().and_then(|e| self.site.endpoints.get(e));
        let mut service_port = json!({ "name": "main", "port": port, "targetPort": port, "protocol": "TCP" });
        let service = match endpoint {
            Some(endpoint) => {
                service_port["nodePort"] = endpoint.port.into();
                // Local: a load balancer's check then tells whether this very node serves, and a node that died is
                // noticed in seconds, where other nodes' proxies would go on choosing its pods for most of a minute.
                json!({ "type": "NodePort", "externalTrafficPolicy": "Local", "ports": [service_port] })
            }
            None => json!({ "type": "ClusterIP", "ports": [service_port] }),
        };
        let mut object = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.metadata(name),
            "spec": service,
        });
        object["spec"]["selector"] = self.selector(name);
        object
    }

    fn workload(&self, name: &AppName, spec: &ComponentTable) -> Json {
        let mut pod = json!({
            "metadata": { "labels": self.selector(name) },
            "spec": {
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": spec.grace + spec.drain,
                "securityContext": {
                    "runAsNonRoot": true,
                    "runAsUser": spec.user,
                    "runAsGroup": spec.user,
                    "fsGroup": spec.user,
                    "fsGroupChangePolicy": "OnRootMismatch",
                    "seccompProfile": { "type": "RuntimeDefault" },
                },
                "containers": [self.container(name, spec)],
            },
        });
        let volumes = self.volumes(name, spec);
        if !volumes.is_empty() {
            pod["spec"]["volumes"] = volumes.into();
        }
        let tolerated = self.tolerations(spec);
        if let Some(pool) = &spec.pool {
            pod["spec"]["nodeSelector"] = json!({ "muster.dev/pool": pool });
        }
        if spec.disk.is_some() {
            if !tolerated.is_empty() {
                pod["spec"]["tolerations"] = tolerated.into();
            }
            return json!({
                "apiVersion": "apps/v1",
                "kind": "StatefulSet",
                "metadata": self.metadata(name),
                "spec": {
                    "serviceName": name,
                    "replicas": 1,
                    "selector": { "matchLabels": self.selector(name) },
                    "template": pod,
                },
            });
        }
        if spec.replicas > 1 {
            pod["spec"]["topologySpreadConstraints"] = json!([self.spread(name, spec)]);
        }
        // A node that is gone gives its pods back in half a minute and not in five.
        let passing = ["not-ready", "unreachable"].iter().map(|taint| {
            json!({
                "key": format!("node.kubernetes.io/{taint}"),
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": 30,
            })
        });
        pod["spec"]["tolerations"] = passing.chain(tolerated).collect();
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": self.metadata(name),
            "spec": {
                "replicas": spec.replicas,
                "revisionHistoryLimit": 3,
                "minReadySeconds": 3,
                "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } },
                "selector": { "matchLabels": self.selector(name) },
                "template": pod,
            },
        })
    }

    /// Of the taints of the pool that it is put on.
    fn tolerations(&self, spec: &ComponentTable) -> Vec<Json> {
        let pool = spec.pool.as_ref().and_then(|pool| self.site.pools.get(pool));
        let tolerated = |taint: &String| {
            let (left, effect) = taint.rsplit_once(':')?;
            Some(match left.split_once('=') {
                Some((key, value)) => json!({ "key": key, "operator": "Equal", "value": value, "effect": effect }),
                None => json!({ "key": left, "operator": "Exists", "effect": effect }),
            })
        };
        pool.map(|pool| pool.taints.iter().filter_map(tolerated).collect()).unwrap_or_default()
    }

    /// Pods on different nodes, even while a cluster is born and only one node is there yet.
    fn spread(&self, name: &AppName, spec: &ComponentTable) -> Json {
        // Where a taint keeps them out there is no place for them either.
        let open = |pool: &&Pool| {
            let closed = |taint: &String| taint.ends_with(":NoSchedule") || taint.ends_with(":NoExecute");
            pool.member == MemberRole::Worker && !pool.taints.iter().any(closed)
        };
        let workers: u32 = match spec.pool.as_ref().and_then(|pool| self.site.pools.get(pool)) {
            Some(pool) => pool.min,
            None => self.site.pools.values().filter(open).map(|pool| pool.min).sum(),
        };
        json!({
            "maxSkew": 1,
            "minDomains": spec.replicas.min(workers).max(1),
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "DoNotSchedule",
            "nodeTaintsPolicy": "Honor",
            "matchLabelKeys": ["pod-template-hash"],
            "labelSelector": { "matchLabels": self.selector(name) },
        })
    }

    fn container(&self, name: &AppName, spec: &ComponentTable) -> Json {
        let mut container = json!({
            "name": name,
            "image": self.engine.image(&spec.image),
            "imagePullPolicy": "IfNotPresent",
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] },
            },
        });
        if !spec.command.is_empty() {
            container["command"] = json!(spec.command);
        }
        if !spec.args.is_empty() {
            container["args"] = json!(spec.args);
        }
        if let Some(port) = spec.port {
            container["ports"] = json!([{ "name": "main", "containerPort": port, "protocol": "TCP" }]);
        }
        let mut environment: Vec<Json> =
            spec.settings.iter().map(|(key, value)| json!({ "name": key, "value": value })).collect();
        environment.extend(
            spec.secrets
                .keys()
                .map(|key| json!({ "name": format!("{key}_FILE"), "value": format!("{SECRETS}/{key}") })),
        );
        if !environment.is_empty() {
            container["env"] = environment.into();
        }
        let mut resources = json!({});
        if let Some(cpu) = spec.cpu {
            resources["requests"]["cpu"] = json!(format!("{}m", thousandths(cpu)));
        }
        if let Some(memory) = &spec.memory {
            resources["requests"]["memory"] = json!(memory);
            resources["limits"]["memory"] = json!(memory);
        }
        container["resources"] = resources;
        let ready = probe(spec.ready.as_ref(), spec.port);
        if let Some(ready) = &ready {
            container["readinessProbe"] =
                with(ready, json!({ "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 3 }));
        }
        if let Some(alive) = spec.alive.as_ref().and_then(|alive| probe(Some(alive), spec.port)) {
            container["livenessProbe"] =
                with(&alive, json!({ "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3 }));
            // What takes long to begin is not dead: five minutes.
            container["startupProbe"] =
                with(&alive, json!({ "periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 150 }));
        }
        if spec.drain > 0 {
            container["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": spec.drain } } });
        }
        let mut mounts: Vec<Json> = Vec::new();
        mounts.extend(spec.disk.iter().map(|disk| json!({ "name": "disk", "mountPath": disk.path })));
        if !spec.secrets.is_empty() {
            mounts.push(json!({ "name": "secrets", "mountPath": SECRETS, "readOnly": true }));
        }
        mounts.extend(
            spec.scratch
                .iter()
                .enumerate()
                .map(|(i, path)| json!({ "name": format!("scratch-{i}"), "mountPath": path.0 })),
        );
        if !mounts.is_empty() {
            container["volumeMounts"] = mounts.into();
        }
        container
    }

    fn volumes(&self, name: &AppName, spec: &ComponentTable) -> Vec<Json> {
        let mut volumes = Vec::new();
        if spec.disk.is_some() {
            volumes.push(json!({ "name": "disk", "persistentVolumeClaim": { "claimName": name } }));
        }
        if !spec.secrets.is_empty() {
            volumes.push(json!({ "name": "secrets", "secret": { "secretName": name, "defaultMode": 0o440 } }));
        }
        for i in 0..spec.scratch.len() {
            volumes.push(json!({ "name": format!("scratch-{i}"), "emptyDir": {} }));
        }
        volumes
    }
}

fn thousandths(cpus: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number, checked")]
    let milli = (cpus * 1000.0).round() as u32;
    milli
}

fn with(probe: &Json, settings: Json) -> Json {
    let mut probe = probe.clone();
    if let (Some(probe), Json::Object(settings)) = (probe.as_object_mut(), settings) {
        probe.extend(settings);
    }
    probe
}

fn probe(probe: Option<&Probe>, port: Option<u16>) -> Option<Json> {
    match (probe, port) {
        (Some(Probe::Command(command)), _) => Some(json!({ "exec": { "command": command } })),
        (Some(Probe::Path(path)), Some(port)) => Some(json!({ "httpGet": { "path": path, "port": port } })),
        (None, Some(port)) => Some(json!({ "tcpSocket": { "port": port } })),
        (Some(Probe::Path(_)) | None, None) => None,
    }
}
