//! The memory allocator, and how soon it gives memory back. `docs/decisions/0004-allocator.md` has the figures.
#![allow(unsafe_code)]

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// jemalloc reads this at its first allocation.
///
/// One arena, because more of them only keep more memory, and threads' caches for objects up to 2 KiB alone, because what
/// a cache holds is never given back while its thread is idle. Pages that fall free are given back after half a second,
/// by a thread of jemalloc's own that sleeps while there are none: an idle worker allocates nothing, and would never look
/// at the clock itself.
// SAFETY: the symbol is the one that jemalloc documents (malloc_conf, with the prefix that this build gives its
// symbols), it is read only, and it is a pointer to a string that ends with a zero byte, as C expects.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub(crate) static MALLOC_CONF: MallocConf = MallocConf(
    c"narenas:1,tcache_max:2048,dirty_decay_ms:500,muzzy_decay_ms:0,background_thread:true,max_background_threads:1"
        .as_ptr(),
);

/// A `const char *` that never changes.
#[repr(transparent)]
pub(crate) struct MallocConf(*const std::ffi::c_char);

// SAFETY: what it points to is static and never written.
unsafe impl Sync for MallocConf {}
