//! The process's randomness, by seed: without it, two runs of one seed take different paths.
//!
//! tokio draws the order of `select!` arms and of woken watchers from a generator that it seeds from the standard
//! library's hash keys, which come from `getrandom`; `rand` seeds from there too. The standard library looks that symbol
//! up so that a program may put its own in its place, which is done here. Each thread draws its own sequence, so that
//! what another thread draws does not matter. TLS keys do not come from here: they differ from run to run, and nothing
//! that is observed depends on them (a signature's length, and so a message's, may differ by a byte or two).

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
};

static SEED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static DRAWN: Cell<u64> = const { Cell::new(0) };
}

/// From now on the process draws by this seed.
pub fn seed(seed: u64) {
    SEED.store(seed, Ordering::SeqCst);
    DRAWN.with(|drawn| drawn.set(0));
}

/// SplitMix64's step.
fn mixed(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// As the C library's.
///
/// # Safety
/// `buffer` points to `length` bytes that may be written.
#[expect(unsafe_code, reason = "a C function is put in the place of the C library's")]
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    let draw = DRAWN.try_with(|drawn| drawn.replace(drawn.get() + 1)).unwrap_or(0);
    let mut state = mixed(SEED.load(Ordering::SeqCst) ^ mixed(draw));
    for offset in 0..length {
        state = mixed(state);
        // SAFETY: the caller promises `length` bytes.
        unsafe { buffer.add(offset).write(state as u8) };
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}
