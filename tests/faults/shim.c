/* Stands between a process and libc's file calls, for paths below one folder.

   It records every change with its bytes (mode "record"), or makes chosen calls fail (mode "fail").
   Loaded with LD_PRELOAD; does nothing before shim_start. Everything it asks of the kernel goes
   through syscall(), so that it never meets itself. Linux, glibc.

   A record: seven numbers (see struct record), then path, second path, bytes. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum operation {
    MARK = 1, CREATE, TRUNCATE, WRITE, SYNC, RENAME, UNLINK, LINK, MKDIR, RMDIR, UNKNOWN, FAULT
};

/* Kinds of calls that can be made to fail; the numbers are bits of a mask (see shim.py). */
enum kind {
    OPENS = 1, CREATES = 2, WRITES = 4, SYNCS = 8, RENAMES = 16, UNLINKS = 32, LINKS = 64,
    MKDIRS = 128, TRUNCATES = 256, CLOSES = 512, READS = 1024, MAPS = 2048, LISTS = 4096
};

struct record {
    uint32_t operation, caller, path, second, bytes, zero;
    uint64_t inode;
    int64_t offset;
};

#define SHORT (-1) /* instead of an errno: half of the bytes are written */

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static int active = 0, trace = -1;
static char root[PATH_MAX];
static size_t root_length = 0;

static unsigned wanted = 0; /* a mask of kinds */
static long nth = 0, seen = 0, faults = 0, retried = 0, counts[16];
static int error_number = 0, lasting = 0;
static uint64_t failed_sync = 0;
static char described[PATH_MAX + 128];

/* ---- where a call goes ---- */

static int below(const char *path) {
    return strncmp(path, root, root_length) == 0
        && (path[root_length] == '/' || path[root_length] == 0);
}

static int path_of(int fd, char *out) {
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, out, PATH_MAX - 1);
    if (n < 0) return 0;
    out[n] = 0;
    return 1;
}

/* Whether path, relative to the folder fd, is below the root; out gets the whole path. */
static int inside(int fd, const char *path, char *out) {
    if (!active || path == NULL) return 0;
    if (path[0] == '/') {
        snprintf(out, PATH_MAX, "%s", path);
    } else {
        char base[PATH_MAX];
        if (fd == AT_FDCWD) {
            if (syscall(SYS_getcwd, base, sizeof base) < 0) return 0;
        } else if (!path_of(fd, base)) {
            return 0;
        }
        if (strlen(base) + strlen(path) + 2 > PATH_MAX) return 0;
        strcpy(out, base);
        strcat(out, "/");
        strcat(out, path);
    }
    return below(out);
}

static int open_inside(int fd, char *out) {
    return active && path_of(fd, out) && below(out);
}

/* ---- what was done ---- */

static uint32_t library(void *address) {
    Dl_info info;
    if (address == NULL || !dladdr(address, &info) || info.dli_fname == NULL) return '?';
    if (strstr(info.dli_fname, "sqlite3.so")) return 's';
    if (strstr(info.dli_fname, "tantivy")) return 't';
    if (strstr(info.dli_fname, "python")) return 'p';
    return 'o';
}

static void all_out(const void *data, size_t length) {
    const char *at = data;
    while (length > 0) {
        ssize_t n = syscall(SYS_write, trace, at, length);
        if (n <= 0) return;
        at += n;
        length -= n;
    }
}

static void put(int operation, void *caller, uint64_t inode, int64_t offset, const char *path,
                const char *second, const void *bytes, size_t length) {
    if (trace < 0) return;
    int before = errno;
    struct record r = {operation, caller ? library(caller) : '-', path ? strlen(path) : 0,
                       second ? strlen(second) : 0, length, 0, inode, offset};
    all_out(&r, sizeof r);
    if (path) all_out(path, r.path);
    if (second) all_out(second, r.second);
    if (length) all_out(bytes, length);
    errno = before;
}

static uint64_t inode_at(const char *path) {
    struct stat s;
    return fstatat(AT_FDCWD, path, &s, AT_SYMLINK_NOFOLLOW) == 0 ? s.st_ino : 0;
}

static uint64_t inode_of(int fd) {
    struct stat s;
    return fstat(fd, &s) == 0 ? s.st_ino : 0;
}

/* ---- what is to fail ---- */

static int fault(int kind, const char *call, const char *path, void *caller) {
    counts[__builtin_ctz(kind)]++;
    if (!(wanted & kind) || error_number == 0) return 0;
    seen++;
    if (seen != nth && !(lasting && seen > nth && nth > 0)) return 0;
    if (faults++ == 0)
        snprintf(described, sizeof described, "%s %s by %c", call, path + root_length,
                 (char)library(caller));
    put(FAULT, caller, 0, error_number, path, call, NULL, 0);
    return error_number;
}

/* A folder of which something changed is another one than that whose sync failed. */
static void note_change(const char *path) {
    if (!failed_sync) return;
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    char *end = strrchr(folder, '/');
    if (end) *end = 0;
    if (inode_at(folder) == failed_sync) failed_sync = 0;
}

static void note_write(uint64_t inode) {
    if (inode == failed_sync) failed_sync = 0;
}

/* ---- for Python ---- */

int shim_start(const char *folder, const char *trace_path) {
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
    trace = -1;
    if (trace_path && trace_path[0])
        trace = syscall(SYS_openat, AT_FDCWD, trace_path,
                        O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    active = 1;
    put(MKDIR, NULL, inode_at(root), 0, root, NULL, NULL, 0);
    return trace;
}

void shim_stop(void) {
    pthread_mutex_lock(&turn);
    active = 0;
    wanted = 0;
    if (trace >= 0) syscall(SYS_close, trace);
    trace = -1;
    pthread_mutex_unlock(&turn);
}

void shim_mark(const char *text) {
    pthread_mutex_lock(&turn);
    put(MARK, NULL, 0, 0, text, NULL, NULL, 0);
    pthread_mutex_unlock(&turn);
}

/* From now on let the n-th call of these kinds fail, and all later ones if it is to last. */
void shim_fail(unsigned kinds, long n, int error, int lasts) {
    pthread_mutex_lock(&turn);
    wanted = kinds;
    nth = n;
    error_number = error;
    lasting = lasts;
    seen = faults = retried = 0;
    memset(counts, 0, sizeof counts);
    failed_sync = 0;
    described[0] = 0;
    pthread_mutex_unlock(&turn);
}

long shim_seen(void) { return seen; }
long shim_count(int bit) { return counts[bit]; }
long shim_faults(void) { return faults; }
long shim_retried(void) { return retried; }
const char *shim_described(void) { return described; }

/* ---- the calls ---- */

#define HERE __builtin_return_address(0)

static int refuse(int error) {
    errno = error == SHORT ? EIO : error;
    pthread_mutex_unlock(&turn);
    return -1;
}

static int open_at(int at, const char *path, int flags, mode_t mode, void *caller) {
    char full[PATH_MAX];
    if (!inside(at, path, full)) return syscall(SYS_openat, at, path, flags, mode);
    pthread_mutex_lock(&turn);
    struct stat before, after;
    int was_there = fstatat(at, path, &before, AT_SYMLINK_NOFOLLOW) == 0;
    int creates = (flags & O_CREAT) && !was_there;
    int error = fault(creates ? CREATES : OPENS, "open", full, caller);
    if (error) return refuse(error);
    int fd = syscall(SYS_openat, at, path, flags, mode);
    if (fd >= 0 && creates) note_change(full);
    if (fd >= 0 && trace >= 0 && fstat(fd, &after) == 0) {
        int kept = errno;
        if ((flags & O_TMPFILE) == O_TMPFILE) put(UNKNOWN, caller, 0, 0, full, "O_TMPFILE", 0, 0);
        else if (creates) put(CREATE, caller, after.st_ino, 0, full, NULL, NULL, 0);
        else if ((flags & O_TRUNC) && before.st_size > 0)
            put(TRUNCATE, caller, after.st_ino, 0, full, NULL, NULL, 0);
        errno = kept;
    }
    pthread_mutex_unlock(&turn);
    return fd;
}

#define MODE(flags, mode)                                  \
    mode_t mode = 0;                                       \
    if (((flags) & O_CREAT) || ((flags) & O_TMPFILE) == O_TMPFILE) { \
        va_list rest;                                      \
        va_start(rest, flags);                             \
        mode = va_arg(rest, int);                          \
        va_end(rest);                                      \
    }

int open(const char *path, int flags, ...) {
    MODE(flags, mode)
    return open_at(AT_FDCWD, path, flags, mode, HERE);
}
int open64(const char *path, int flags, ...) {
    MODE(flags, mode)
    return open_at(AT_FDCWD, path, flags | O_LARGEFILE, mode, HERE);
}
int openat(int at, const char *path, int flags, ...) {
    MODE(flags, mode)
    return open_at(at, path, flags, mode, HERE);
}
int openat64(int at, const char *path, int flags, ...) {
    MODE(flags, mode)
    return open_at(at, path, flags | O_LARGEFILE, mode, HERE);
}
int creat(const char *path, mode_t mode) {
    return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode, HERE);
}
int creat64(const char *path, mode_t mode) {
    return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode, HERE);
}
int __open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0, HERE); }
int __open64_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0, HERE); }

/* offset < 0: where the file stands. */
static ssize_t write_at(int fd, const void *data, size_t length, off_t offset, void *caller) {
    char full[PATH_MAX];
    int known = open_inside(fd, full);
    if (known) pthread_mutex_lock(&turn);
    if (known) {
        int error = fault(WRITES, offset < 0 ? "write" : "pwrite", full, caller);
        if (error == SHORT) length = length > 1 ? length / 2 : length;
        else if (error) return refuse(error);
    }
    ssize_t n = offset < 0 ? syscall(SYS_write, fd, data, length)
                           : syscall(SYS_pwrite64, fd, data, length, offset);
    if (known) {
        if (n > 0) {
            uint64_t inode = inode_of(fd);
            note_write(inode);
            off_t at = offset < 0 ? syscall(SYS_lseek, fd, 0, SEEK_CUR) - n : offset;
            put(WRITE, caller, inode, at, full, NULL, data, n);
        }
        pthread_mutex_unlock(&turn);
    }
    return n;
}

ssize_t write(int fd, const void *data, size_t n) { return write_at(fd, data, n, -1, HERE); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) {
    return write_at(fd, data, n, at, HERE);
}
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
    return write_at(fd, data, n, at, HERE);
}

/* One vector after the other: whoever writes several must be ready for fewer bytes anyway. */
static ssize_t write_vectors(int fd, const struct iovec *parts, int count, off_t offset,
                             void *caller) {
    char full[PATH_MAX];
    if (!open_inside(fd, full))
        return offset < 0 ? syscall(SYS_writev, fd, parts, count)
                          : syscall(SYS_pwritev, fd, parts, count, offset, 0);
    for (int i = 0; i < count; i++)
        if (parts[i].iov_len)
            return write_at(fd, parts[i].iov_base, parts[i].iov_len, offset, caller);
    return 0;
}

ssize_t writev(int fd, const struct iovec *v, int n) { return write_vectors(fd, v, n, -1, HERE); }
ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at) {
    return write_vectors(fd, v, n, at, HERE);
}
ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t at) {
    return write_vectors(fd, v, n, at, HERE);
}
ssize_t pwritev2(int fd, const struct iovec *v, int n, off_t at, int flags) {
    (void)flags;
    return write_vectors(fd, v, n, at, HERE);
}

/* Copies inside the kernel: callers fall back to reading and writing. */
ssize_t sendfile(int out, int in, off_t *offset, size_t n) {
    char full[PATH_MAX];
    if (open_inside(out, full)) { errno = ENOSYS; return -1; }
    return syscall(SYS_sendfile, out, in, offset, n);
}
ssize_t sendfile64(int out, int in, off64_t *offset, size_t n) {
    return sendfile(out, in, offset, n);
}
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t n, unsigned flags) {
    char full[PATH_MAX];
    if (open_inside(out, full)) { errno = ENOSYS; return -1; }
    return syscall(SYS_copy_file_range, in, from, out, to, n, flags);
}
int fallocate(int fd, int mode, off_t offset, off_t n) {
    char full[PATH_MAX];
    if (open_inside(fd, full)) { errno = EOPNOTSUPP; return -1; }
    return syscall(SYS_fallocate, fd, mode, offset, n);
}
int fallocate64(int fd, int mode, off64_t at, off64_t n) { return fallocate(fd, mode, at, n); }
int posix_fallocate(int fd, off_t at, off_t n) { return fallocate(fd, 0, at, n) ? errno : 0; }
int posix_fallocate64(int fd, off64_t at, off64_t n) { return posix_fallocate(fd, at, n); }

static int truncate_to(int fd, off_t length, void *caller) {
    char full[PATH_MAX];
    if (!open_inside(fd, full)) return syscall(SYS_ftruncate, fd, length);
    pthread_mutex_lock(&turn);
    int error = fault(TRUNCATES, "ftruncate", full, caller);
    if (error) return refuse(error);
    int rc = syscall(SYS_ftruncate, fd, length);
    if (rc == 0) note_write(inode_of(fd));
    if (rc == 0) put(TRUNCATE, caller, inode_of(fd), length, full, NULL, NULL, 0);
    pthread_mutex_unlock(&turn);
    return rc;
}
int ftruncate(int fd, off_t length) { return truncate_to(fd, length, HERE); }
int ftruncate64(int fd, off64_t length) { return truncate_to(fd, length, HERE); }

static int sync_of(int fd, long number, const char *name, void *caller) {
    char full[PATH_MAX];
    if (!open_inside(fd, full)) return syscall(number, fd);
    pthread_mutex_lock(&turn);
    uint64_t inode = inode_of(fd);
    if (failed_sync && inode == failed_sync) retried++;
    int error = fault(SYNCS, name, full, caller);
    if (error) {
        failed_sync = inode;
        return refuse(error);
    }
    int rc = syscall(number, fd);
    if (rc == 0) put(SYNC, caller, inode, 0, full, NULL, NULL, 0);
    pthread_mutex_unlock(&turn);
    return rc;
}
int fsync(int fd) { return sync_of(fd, SYS_fsync, "fsync", HERE); }
int fdatasync(int fd) { return sync_of(fd, SYS_fdatasync, "fdatasync", HERE); }

static int rename_at(int from_at, const char *from, int to_at, const char *to, unsigned flags,
                     void *caller) {
    char old[PATH_MAX], new[PATH_MAX];
    int known = inside(from_at, from, old);
    known = inside(to_at, to, new) || known;
    if (!known) return syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    pthread_mutex_lock(&turn);
    int error = fault(RENAMES, "rename", old, caller);
    if (error) return refuse(error);
    int rc = syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    if (rc == 0) note_change(new);
    if (rc == 0)
        put(flags & ~RENAME_NOREPLACE ? UNKNOWN : RENAME, caller, 0, 0, old, new, NULL, 0);
    pthread_mutex_unlock(&turn);
    return rc;
}
int rename(const char *from, const char *to) {
    return rename_at(AT_FDCWD, from, AT_FDCWD, to, 0, HERE);
}
int renameat(int a, const char *from, int b, const char *to) {
    return rename_at(a, from, b, to, 0, HERE);
}
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    return rename_at(a, from, b, to, flags, HERE);
}

static int unlink_at(int at, const char *path, int flags, void *caller) {
    char full[PATH_MAX];
    if (!inside(at, path, full)) return syscall(SYS_unlinkat, at, path, flags);
    pthread_mutex_lock(&turn);
    int error = fault(UNLINKS, flags & AT_REMOVEDIR ? "rmdir" : "unlink", full, caller);
    if (error) return refuse(error);
    int rc = syscall(SYS_unlinkat, at, path, flags);
    if (rc == 0) note_change(full);
    if (rc == 0) put(flags & AT_REMOVEDIR ? RMDIR : UNLINK, caller, 0, 0, full, NULL, NULL, 0);
    pthread_mutex_unlock(&turn);
    return rc;
}
int unlink(const char *path) { return unlink_at(AT_FDCWD, path, 0, HERE); }
int unlinkat(int at, const char *path, int flags) { return unlink_at(at, path, flags, HERE); }
int rmdir(const char *path) { return unlink_at(AT_FDCWD, path, AT_REMOVEDIR, HERE); }
int remove(const char *path) {
    int rc = unlink_at(AT_FDCWD, path, 0, HERE);
    return rc && errno == EISDIR ? unlink_at(AT_FDCWD, path, AT_REMOVEDIR, HERE) : rc;
}

static int link_at(int from_at, const char *from, int to_at, const char *to, int flags,
                   void *caller) {
    char old[PATH_MAX], new[PATH_MAX];
    if (!inside(to_at, to, new)) return syscall(SYS_linkat, from_at, from, to_at, to, flags);
    inside(from_at, from, old);
    pthread_mutex_lock(&turn);
    int error = fault(LINKS, "link", new, caller);
    if (error) return refuse(error);
    int rc = syscall(SYS_linkat, from_at, from, to_at, to, flags);
    if (rc == 0) note_change(new);
    if (rc == 0) put(LINK, caller, inode_at(new), 0, old, new, NULL, 0);
    pthread_mutex_unlock(&turn);
    return rc;
}
int link(const char *from, const char *to) {
    return link_at(AT_FDCWD, from, AT_FDCWD, to, 0, HERE);
}
int linkat(int a, const char *from, int b, const char *to, int flags) {
    return link_at(a, from, b, to, flags, HERE);
}

static int symlink_at(const char *text, int at, const char *path, void *caller) {
    char full[PATH_MAX];
    int rc = syscall(SYS_symlinkat, text, at, path);
    if (rc == 0 && inside(at, path, full)) {
        pthread_mutex_lock(&turn);
        put(UNKNOWN, caller, 0, 0, full, "symlink", NULL, 0);
        pthread_mutex_unlock(&turn);
    }
    return rc;
}
int symlink(const char *text, const char *path) {
    return symlink_at(text, AT_FDCWD, path, HERE);
}
int symlinkat(const char *text, int at, const char *path) {
    return symlink_at(text, at, path, HERE);
}

static int mkdir_at(int at, const char *path, mode_t mode, void *caller) {
    char full[PATH_MAX];
    if (!inside(at, path, full)) return syscall(SYS_mkdirat, at, path, mode);
    pthread_mutex_lock(&turn);
    int error = inode_at(full) ? 0 : fault(MKDIRS, "mkdir", full, caller);
    if (error) return refuse(error);
    int rc = syscall(SYS_mkdirat, at, path, mode);
    if (rc == 0) note_change(full);
    if (rc == 0) put(MKDIR, caller, inode_at(full), 0, full, NULL, NULL, 0);
    pthread_mutex_unlock(&turn);
    return rc;
}
int mkdir(const char *path, mode_t mode) { return mkdir_at(AT_FDCWD, path, mode, HERE); }
int mkdirat(int at, const char *path, mode_t mode) { return mkdir_at(at, path, mode, HERE); }

/* The kernel gives a descriptor back whatever close says. */
int close(int fd) {
    char full[PATH_MAX];
    int writes = active && (syscall(SYS_fcntl, fd, F_GETFL) & O_ACCMODE) != O_RDONLY;
    if (!writes || !open_inside(fd, full)) return syscall(SYS_close, fd);
    pthread_mutex_lock(&turn);
    int error = fault(CLOSES, "close", full, HERE);
    syscall(SYS_close, fd);
    if (error) return refuse(error);
    pthread_mutex_unlock(&turn);
    return 0;
}

static int read_fault(int fd, const char *name, void *caller) {
    char full[PATH_MAX];
    if (!open_inside(fd, full)) return 0;
    pthread_mutex_lock(&turn);
    int error = fault(READS, name, full, caller);
    pthread_mutex_unlock(&turn);
    return error;
}

static ssize_t read_at(int fd, void *data, size_t length, off_t offset, void *caller) {
    int error = read_fault(fd, offset < 0 ? "read" : "pread", caller);
    if (error == SHORT) {
        length = length > 1 ? length / 2 : length;
    } else if (error) {
        errno = error;
        return -1;
    }
    return offset < 0 ? syscall(SYS_read, fd, data, length)
                      : syscall(SYS_pread64, fd, data, length, offset);
}
ssize_t read(int fd, void *data, size_t n) { return read_at(fd, data, n, -1, HERE); }
ssize_t pread(int fd, void *data, size_t n, off_t at) { return read_at(fd, data, n, at, HERE); }
ssize_t pread64(int fd, void *data, size_t n, off64_t at) { return read_at(fd, data, n, at, HERE); }

static void *map_at(void *at, size_t n, int protection, int flags, int fd, off_t offset,
                    void *caller) {
    char full[PATH_MAX];
    if (fd >= 0 && open_inside(fd, full)) {
        pthread_mutex_lock(&turn);
        int error = fault(MAPS, "mmap", full, caller);
        if ((flags & MAP_SHARED) && (protection & PROT_WRITE))
            put(UNKNOWN, caller, 0, 0, full, "a writable shared map", NULL, 0);
        pthread_mutex_unlock(&turn);
        if (error) {
            errno = error == SHORT ? ENOMEM : error;
            return MAP_FAILED;
        }
    }
    return (void *)syscall(SYS_mmap, at, n, protection, flags, fd, offset);
}
void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset) {
    return map_at(at, n, protection, flags, fd, offset, HERE);
}
void *mmap64(void *at, size_t n, int protection, int flags, int fd, off64_t offset) {
    return map_at(at, n, protection, flags, fd, offset, HERE);
}

/* C's own files are opened inside libc: seen here, or not at all. */
static int stdio_fault(const char *path, const char *mode, void *caller) {
    char full[PATH_MAX];
    if (!inside(AT_FDCWD, path, full)) return 0;
    pthread_mutex_lock(&turn);
    int error = fault(OPENS, "fopen", full, caller);
    if (strpbrk(mode, "wa+")) put(UNKNOWN, caller, 0, 0, full, "fopen for writing", NULL, 0);
    pthread_mutex_unlock(&turn);
    return error;
}
FILE *fopen(const char *path, const char *mode) {
    static FILE *(*real)(const char *, const char *);
    int error = stdio_fault(path, mode, HERE);
    if (error) { errno = error == SHORT ? EIO : error; return NULL; }
    if (!real) real = dlsym(RTLD_NEXT, "fopen");
    return real(path, mode);
}
FILE *fopen64(const char *path, const char *mode) {
    static FILE *(*real)(const char *, const char *);
    int error = stdio_fault(path, mode, HERE);
    if (error) { errno = error == SHORT ? EIO : error; return NULL; }
    if (!real) real = dlsym(RTLD_NEXT, "fopen64");
    return real(path, mode);
}
DIR *opendir(const char *path) {
    static DIR *(*real)(const char *);
    char full[PATH_MAX];
    if (inside(AT_FDCWD, path, full)) {
        pthread_mutex_lock(&turn);
        int error = fault(LISTS, "opendir", full, HERE);
        pthread_mutex_unlock(&turn);
        if (error) { errno = error == SHORT ? EIO : error; return NULL; }
    }
    if (!real) real = dlsym(RTLD_NEXT, "opendir");
    return real(path);
}
