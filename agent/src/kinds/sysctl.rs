//! `[[sysctl]]`: the live value below `/proc/sys`, and a file that keeps it.

use muster_catalog::kinds::sysctl::SysctlSpec;
use muster_plan::kinds::sysctl::{Change, Observed, path, proc_path};

use crate::{Context, Done, StepError};

pub async fn observe(ctx: &Context, spec: &SysctlSpec) -> Result<Observed, StepError> {
    let text = |path: &str| {
        let content = ctx.files.read(path)?;
        Ok::<_, StepError>(content.map(|content| String::from_utf8_lossy(&content).into_owned()))
    };
    Ok(Observed { live: text(&proc_path(spec))?, kept: text(&path(spec))? })
}

pub async fn apply(ctx: &Context, spec: &SysctlSpec, change: &Change) -> Result<Done, StepError> {
    if change.live {
        let place = proc_path(spec);
        if ctx.files.stat(&place)?.is_none() {
            return Err(StepError::failed(format!("this kernel has no setting {}", spec.key))
                .help("does a kernel_module bring it? name it in `after`"));
        }
        ctx.files.write_in_place(&place, format!("{}\n", spec.value).as_bytes())?;
    }
    if let Some(text) = &change.kept {
        ctx.files.write(&path(spec), text.as_bytes(), 0o644, 0, 0)?;
    }
    Ok(Done::default())
}
