//! `[[sysctl]]`: the live value below `/proc/sys`, and a file that keeps it.

use muster_catalog::kinds::sysctl::SysctlSpec;
use muster_plan::kinds::sysctl::{Change, Observed};

use crate::{Context, Done, StepError};

pub async fn observe(ctx: &Context, spec: &SysctlSpec) -> Result<Observed, StepError> {
    let text = |path: &str| {
        let content = ctx.files.read(path)?;
        Ok::<_, StepError>(content.map(|content| String::from_utf8_lossy(&content).into_owned()))
    };
    Ok(Observed { live: text(&spec.live_file())?, kept: text(&spec.file())? })
}

pub async fn apply(ctx: &Context, spec: &SysctlSpec, change: &Change) -> Result<Done, StepError> {
    if change.live {
        let place = spec.live_file();
        if ctx.files.stat(&place)?.is_none() {
            return Err(StepError::failed(format!("this kernel has no setting {}", spec.key))
                .help("does a kernel_module bring it? name it in `after`"));
        }
        ctx.files.write_in_place(&place, format!("{}\n", spec.value).as_bytes())?;
    }
    if let Some(text) = &change.kept {
        ctx.files.write(&spec.file(), text.as_bytes(), 0o644, 0, 0)?;
    }
    Ok(Done::default())
}
