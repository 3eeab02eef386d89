//! How the allocator of this process behaves.

/// Makes glibc's allocator give freed memory back to the kernel, for processes that run for long: one arena for all
/// threads, since few of them allocate at a time, and blocks from 64 KiB on in mappings of their own, which go when they
/// are freed (`mallopt(3)`). By default glibc raises that limit to 32 MiB as it goes, and the answers of a container
/// engine stay in the heap for ever. Call it before the first thread is started.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    {
        const KIB: libc::c_int = 1024;
        for (option, value) in
            [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, 64 * KIB), (libc::M_TRIM_THRESHOLD, 64 * KIB)]
        {
            #[expect(unsafe_code, reason = "no crate offers it")]
            // SAFETY: it takes two numbers and has no state of ours.
            let _ = unsafe { libc::mallopt(option, value) };
        }
    }
}
