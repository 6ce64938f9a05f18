use std::{sync::Arc, time::{Duration, Instant}};
use muster_agent::{*, adapters::*, ports::*};
use muster_catalog::{Catalog, Spec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Coord(String);
async fn ask(to: &str, q: &str) -> Result<String, PortError> {
    let e = |e: std::io::Error| PortError::Unreachable(Box::new(e));
    let mut s = tokio::net::TcpStream::connect(to).await.map_err(e)?;
    s.write_all(q.as_bytes()).await.map_err(e)?; s.shutdown().await.map_err(e)?;
    let mut t = String::new(); s.read_to_string(&mut t).await.map_err(e)?; Ok(t)
}
#[async_trait::async_trait]
impl Tickets for Coord { async fn join(&self, cp: bool) -> Result<JoinTicket, PortError> {
    for _ in 0..600 {
        if let Ok(t) = ask(&self.0, &format!("ticket {} {cp}", std::env::var("NODE").unwrap())).await {
            let p: Vec<_> = t.trim().split(' ').collect();
            if p.len() >= 3 { return Ok(JoinTicket{token:p[0].into(),ca_hash:p[1].into(),certificate_key:p.get(3).map(|s|s.to_string()),expires:p[2].parse().unwrap()}); }
            eprintln!("ticket: {t}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(PortError::NotYet("a ticket".into()))
}}
struct Held(String);
#[async_trait::async_trait]
impl HeldTurn for Held { fn valid(&self)->bool{true} async fn give(self: Box<Self>) { let _ = ask(&self.0,"give").await; } }
#[async_trait::async_trait]
impl Turns for Coord { async fn take(&self, _t: Turn, _r: &str) -> Result<Taken, PortError> {
    let n = std::env::var("NODE").unwrap();
    let t = ask(&self.0, &format!("turn {n}")).await?;
    if t == n { Ok(Taken::Granted(Box::new(Held(self.0.clone())))) } else { Ok(Taken::HeldBy(t)) }
}}
struct NoSecrets;
#[async_trait::async_trait]
impl Secrets for NoSecrets { async fn get(&self, n: &str) -> Result<Vec<u8>, PortError> { Ok(format!("value-of-{n}").into_bytes()) } }

fn ctx(catalog: &Catalog, coord: &str) -> Context {
    let files: Arc<dyn Files> = Arc::new(files::RealFiles::new());
    let commands: Arc<dyn Commands> = Arc::new(commands::SystemCommands);
    let c = Arc::new(Coord(coord.to_owned()));
    Context { files: files.clone(), packages: Arc::new(apt::Apt::new(commands.clone(), files.clone())), units: Arc::new(systemd::Systemd::new(commands.clone())),
        docker: Arc::new(docker::Bollard::new()), commands, clock: Arc::new(clock::SystemClock), kube: Arc::new(cluster::client::KubeFiles::new(files)),
        turns: c.clone(), secrets: Arc::new(NoSecrets), tickets: c, scope: Arc::new(Scope::of(catalog)) }
}
async fn serve(ctx: Context) {
    let l = tokio::net::TcpListener::bind("0.0.0.0:7999").await.unwrap();
    let turn = Arc::new(std::sync::Mutex::new(String::new()));
    loop {
        let (mut s, _) = l.accept().await.unwrap(); let ctx = ctx.clone(); let turn = turn.clone();
        tokio::spawn(async move {
            let mut q = String::new(); s.read_to_string(&mut q).await.unwrap();
            let p: Vec<_> = q.split(' ').collect();
            let a = match p[0] {
                "ticket" => match cluster::tickets::mint(&ctx, &p[1].parse().unwrap(), p[2]=="true").await {
                    Ok(t) => format!("{} {} {} {}", t.token, t.ca_hash, t.expires, t.certificate_key.unwrap_or_default()),
                    Err(e) => format!("{:?}", e.into_outcome()) },
                "turn" => { let mut t = turn.lock().unwrap(); if t.is_empty() { *t = p[1].into(); } t.clone() }
                _ => { turn.lock().unwrap().clear(); String::new() }
            };
            let _ = s.write_all(a.trim_end().as_bytes()).await;
        });
    }
}
async fn step(ctx: &Context, spec: &Spec) -> bool {
    use muster_plan::kinds::Describe;
    let t = Instant::now();
    macro_rules! go { ($m:ident, $s:expr) => {{
        let r: Result<(Vec<String>,bool), StepError> = async {
            let o = kinds::$m::observe(ctx, $s).await?;
            let Some(c) = muster_plan::kinds::$m::diff($s, &o) else { return Ok((vec!["already right".into()], true)) };
            let mut d = c.detail(); 
            eprintln!("{} {}: {d:?}", stringify!($m), t.elapsed().as_millis());
            if std::env::var("PLAN").is_ok() { return Ok((d, true)); }
            d.extend(kinds::$m::apply(ctx, $s, &c).await?.notes);
            let o = kinds::$m::observe(ctx, $s).await?;
            let again = muster_plan::kinds::$m::diff($s, &o);
            if let Some(a) = &again { d.push(format!("NOT EMPTY AFTER: {:?}", a.detail())); }
            Ok((d, again.is_none()))
        }.await;
        match r { Ok((d, ok)) => { eprintln!("{} took {} ms: {d:#?}", stringify!($m), t.elapsed().as_millis()); ok } Err(e) => { eprintln!("{} {} ms: {:?}", stringify!($m), t.elapsed().as_millis(), e.into_outcome()); false } }
    }}}
    match spec { Spec::ClusterMember(s) => go!(cluster_member, s), Spec::PodNetwork(s) => go!(pod_network, s), Spec::Manifest(s) => go!(manifest, s), _ => true }
}
#[tokio::main]
async fn main() {
    tracing_subscriber::fmt().with_env_filter(std::env::var("LOG").unwrap_or("info,muster_agent=debug".into())).with_writer(std::io::stderr).init();
    let a: Vec<String> = std::env::args().collect();
    let catalog = Arc::new(Catalog::from_toml(&std::fs::read_to_string(&a[2]).unwrap()).unwrap());
    let ctx = ctx(&catalog, &std::env::var("COORD").unwrap_or("127.0.0.1:7999".into()));
    match a[1].as_str() {
        "apply" => { for r in &catalog.resource { if !step(&ctx, &r.spec).await { std::process::exit(4) } } }
        "daemon" => {
            tokio::spawn(cluster::plane::run(ctx.clone()));
            if std::env::var("SERVE").is_ok() { tokio::spawn(serve(ctx.clone())); }
            if std::env::var("APPLY").is_ok() { let t = Instant::now(); for r in &catalog.resource { while !step(&ctx, &r.spec).await { tokio::time::sleep(Duration::from_secs(1)).await; } } eprintln!("ALL {} ms", t.elapsed().as_millis()); 
              while cluster::node_ready(&ctx).await != Some(true) { tokio::time::sleep(Duration::from_millis(100)).await; } eprintln!("READY {} ms", t.elapsed().as_millis()); }
            use futures::StreamExt;
            let mut d = cluster::drift::watch(ctx.clone(), catalog.clone());
            while let Some(id) = d.next().await { eprintln!("DRIFT {id}"); for r in &catalog.resource { if r.id() == id { step(&ctx, &r.spec).await; } } }
        }
        "ready" => println!("{:?}", cluster::node_ready(&ctx).await),
        "mint" => println!("{:?}", cluster::tickets::mint(&ctx, &a[3].parse().unwrap(), a[4]=="true").await.map(|t| t.token)),
        "sign" => { let csr = std::fs::read_to_string(&a[3]).unwrap(); println!("{:?}", cluster::sign::sign(&ctx, &csr, &a[4]).await.map(|s| s.certificate_pem).map_err(|e| e.into_outcome())) }
        _ => panic!(),
    }
}
