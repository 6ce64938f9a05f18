//! What users of other tools that apply and prune have complained of, tried here.

use serde_json::json;

use crate::lab::{Node, detail, failure, set, site};

/// Spellings of which the API server keeps another form; each was, for somebody, a difference that never ended.
const SPELLINGS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: peers, creationTimestamp: null}
spec: {}
status: {}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: a, namespace: peers}
imagePullSecrets: null
---
apiVersion: v1
kind: Secret
metadata: {name: a, namespace: peers}
stringData: {a: text, b: more}
data: {c: dGV4dA==}
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: peers, labels: null}
spec:
  type: ClusterIP
  selector: null
  ports:
  - {name: dns, port: 53, protocol: UDP}
  - {name: dns-tcp, port: 53, protocol: TCP}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: a
  namespace: peers
  resourceVersion: "7"
  uid: 1d7ee5c6-0000-0000-0000-000000000000
spec:
  replicas: 2
  selector: {matchLabels: {app: a}}
  template:
    metadata: {creationTimestamp: null, labels: {app: a}}
    spec:
      containers:
      - name: a
        image: a
        env: [{name: EMPTY, value: ""}, {name: NOTHING, value: null}]
        resources:
          requests: {cpu: 1000m, memory: 1024Mi, ephemeral-storage: "1000000000"}
          limits: {cpu: "1.0", memory: 1073741824}
        ports: [{containerPort: 80}, {containerPort: 80, protocol: UDP}]
        volumeMounts: [{name: keys, mountPath: /keys}]
      volumes:
      - {name: keys, secret: {secretName: a, defaultMode: 0440}}
      tolerations: []
      nodeSelector: {}
status: {replicas: 9}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: a, namespace: peers}
spec:
  serviceName: a
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec: {containers: [{name: a, image: a}]}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1024Mi}}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: a, namespace: peers}
spec:
  schedule: "*/5 * * * *"
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: a}]}}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a, namespace: peers}
spec: {podSelector: {}, ingress: [{}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: a, namespace: peers}
spec: {maxUnavailable: "50%", selector: {matchLabels: {app: a}}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: a, namespace: peers}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: a}
  maxReplicas: 3
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: peers-a, namespace: peers}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: peers-all}
aggregationRule: {clusterRoleSelectors: [{matchLabels: {peers: "true"}}]}
rules: []
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: peers}
webhooks:
- name: peers.example.org
  clientConfig: {url: "https://127.0.0.1:1/"}
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Ignore
  rules: [{apiGroups: [peers.example.org], apiVersions: [v1], operations: [CREATE], resources: [nothing]}]
---
apiVersion: v1
kind: ConfigMapList
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: listed, namespace: peers}, data: {yes: "no", empty: ""}, binaryData: null}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: peers}
provisioner: example.org/none
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: peers}
spec:
  capacity: {storage: 1024Mi}
  accessModes: [ReadWriteOnce]
  hostPath: {path: /srv}
"#;

#[tokio::test]
#[ignore = "needs an API server: cargo xtask test"]
async fn what_the_api_server_spells_otherwise_is_no_difference() {
    let node = Node::new();
    let catalog = site(vec![set("peers", SPELLINGS)], &[]);
    node.settle(&catalog).await;
    let deployment = node.get("/apis/apps/v1/namespaces/peers/deployments/a").await;
    assert_eq!(deployment.pointer("/spec/template/spec/volumes/0/secret/defaultMode"), Some(&json!(0o440)));
    assert_eq!(node.get("/api/v1/namespaces/peers/secrets/a").await["data"]["a"], "dGV4dA==");
    // A key that leaves the text leaves the object.
    node.settle(&site(
        vec![set("peers", &SPELLINGS.replace("stringData: {a: text, b: more}", "stringData: {a: text}"))],
        &[],
    ))
    .await;
    assert!(node.get("/api/v1/namespaces/peers/secrets/a").await["data"]["b"].is_null());
    node.settle(&site(vec![], &["peers"])).await;
    node.gone("/api/v1/namespaces/peers").await;
}

/// What somebody made with another tool is taken over and let go. Another writer's entry of a list stays beside ours, which
/// is said, and goes where the site lets the object be replaced.
#[tokio::test]
#[ignore = "needs an API server: cargo xtask test"]
async fn what_another_tool_made_is_taken_over_and_let_go() {
    let node = Node::new();
    let ns = "apiVersion: v1\nkind: Namespace\nmetadata: {name: taken}\n";
    let path = "/api/v1/namespaces/taken/services/web";
    node.settle(&site(vec![set("taken", ns)], &[])).await;
    let made = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "taken"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}});
    node.create("/api/v1/namespaces/taken/services", &made).await;
    let uid = node.get(path).await["metadata"]["uid"].clone();
    let text = |port: u16| {
        let spec = format!("{{selector: {{app: web}}, ports: [{{name: http, port: {port}, targetPort: 8080}}]}}");
        format!("{ns}---\napiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: taken}}\nspec: {spec}\n")
    };
    node.settle(&site(vec![set("taken", &text(80))], &[])).await;
    let report = node.settle(&site(vec![set("taken", ns)], &[])).await;
    assert_eq!(detail(&report, "what left"), ["= service taken/web (of taken) is let go: it was there before"]);
    assert_eq!(node.get(path).await["metadata"]["uid"], uid);

    let report = node.converge(&site(vec![set("taken", &text(81))], &[])).await;
    let (error, help, _) = failure(&report, "taken");
    assert!(error.contains("Duplicate value") && help.contains("replace = [\"Service\"]"), "{error}\n{help}");
    node.settle(&site(vec![set("taken", &text(81)).replace(&["Service"])], &[])).await;
    let live = node.get(path).await;
    assert_eq!(live["spec"]["ports"].as_array().map(Vec::len), Some(1), "{live:#}");
    node.settle(&site(vec![set("taken", &text(82))], &[])).await;
    assert_eq!(node.get(path).await["spec"]["ports"][0]["port"], 82);
}

/// Server-side apply knows container ports by number and protocol alone: twice the same is said, and stops nothing else.
#[tokio::test]
#[ignore = "needs an API server: cargo xtask test"]
async fn what_server_side_apply_cannot_express_is_said() {
    let node = Node::new();
    let ns = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: said}\n";
    let pod = |rest: &str| {
        format!(
            "{ns}---\napiVersion: v1\nkind: Pod\nmetadata: {{name: a, namespace: said}}\nspec: {{containers: [{{name: a, image: a, {rest}}}]}}\n"
        )
    };
    for (rest, words) in [
        ("ports: [{name: a, containerPort: 80}, {name: b, containerPort: 80}]", "duplicate entries for key"),
        ("env: [{name: A, value: a}, {name: A, value: b}]", "duplicate entries for key"),
        ("livenessProbe: {periodSeconds: '5'}", "expected numeric"),
        ("stdin: yes", "expected boolean"),
        ("prots: []", "field not declared in schema"),
    ] {
        let report = node.converge(&site(vec![set("said", &pod(rest))], &[])).await;
        let (error, help, retry) = failure(&report, "said");
        assert!(error.starts_with("pod said/a: ") && error.contains(words) && !retry, "{rest}: {error}\n{help}");
        assert!(node.find("/api/v1/namespaces/said").await.is_some());
    }
}
