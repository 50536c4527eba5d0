/*
 * What would be left after a power loss, kept while a program runs.
 *
 * Preloaded into a program (LD_PRELOAD), this notes what each fsync makes durable in the folder POWERLOSS_WATCH: a
 * file's bytes, or a directory's list of names, as they are at that moment. Everything goes to POWERLOSS_MIRROR:
 *
 *   files/<inode>-<birth>   the bytes a file had when it was last synced
 *   lists/<inode>-<birth>   a directory's entries when it was last synced: kind, inode-birth, name, each line zero-ended
 *   root                    the watched folder's own inode-birth
 *
 * The program may be killed at any moment; what is in the mirror then is what a disk would hold if nothing that was
 * not synced had reached it. A name without a sync of its directory, bytes without a sync of their file, a rename, a
 * truncation or an unlink nobody synced: none of them happened. `powerloss.rs` makes a folder of it.
 *
 * Small files are copied whole at each sync. Of large ones only what was written since is, which is known from write,
 * pwrite, writev, pwritev, ftruncate and their 64-bit names; other ways to write (a shared mapping, copy_file_range,
 * sendfile) make a file be copied whole. The real sync is left out: the kernel's cache outlives a killed program.
 *
 * As many syncs fail as the file POWERLOSS_FAIL has bytes, one byte each. What such a sync was to make durable counts as
 * clean from then on, as the kernel has it: only what is written again is made durable by a later one.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define SMALL (256 * 1024)
#define FDS 65536
#define FILES 65536

static char watch[PATH_MAX];
static size_t watch_len;
static char mirror[PATH_MAX];
static char fail[PATH_MAX];
static int active;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* 0: not looked at yet; 1: not in the watched folder; otherwise 2 + place in `files`. */
static int fd_state[FDS];

struct file {
    uint64_t inode;
    uint64_t birth;
    int64_t low, high; /* what was written since the last sync; none if low >= high */
    int whole;
    int spoilt; /* A sync of it failed: never copied whole again. */
};
static struct file files[FILES];

static void die(const char *what) {
    char text[512];
    int n = snprintf(text, sizeof text, "powerloss: %s: %s\n", what, strerror(errno));
    if (n > 0) syscall(SYS_write, 2, text, (size_t)n);
    _exit(86);
}

static int identify(int dir, const char *name, int flags, struct statx *out) {
    if (syscall(SYS_statx, dir, name, flags, STATX_BASIC_STATS | STATX_BTIME, out) != 0) return -1;
    return 0;
}

static uint64_t birth_of(const struct statx *stat) {
    return (uint64_t)stat->stx_btime.tv_sec * 1000000000ull + stat->stx_btime.tv_nsec;
}

static struct file *entry(uint64_t inode, uint64_t birth) {
    size_t at = (inode * 11400714819323198485ull) % FILES;
    for (size_t n = 0; n < FILES; n++, at = (at + 1) % FILES) {
        struct file *file = &files[at];
        if (file->inode == inode && file->birth == birth) return file;
        if (file->inode == 0) {
            file->inode = inode;
            file->birth = birth;
            file->low = INT64_MAX;
            file->high = 0;
            file->whole = 1; /* Nothing of it is known yet. */
            return file;
        }
    }
    die("too many files");
    return NULL;
}

/* The file behind a descriptor if it is in the watched folder. Called with the lock held. */
static struct file *lookup(int fd, struct statx *stat) {
    if (fd < 0 || fd >= FDS) return NULL;
    if (fd_state[fd] == 1) return NULL;
    if (fd_state[fd] == 0) {
        char link[64], path[PATH_MAX];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t len = syscall(SYS_readlink, link, path, sizeof path - 1);
        fd_state[fd] = 1;
        if (len <= 0) return NULL;
        path[len] = 0;
        if (strncmp(path, watch, watch_len) != 0 || (path[watch_len] != '/' && path[watch_len] != 0)) return NULL;
        if (identify(fd, "", AT_EMPTY_PATH, stat) != 0) return NULL;
        fd_state[fd] = 2 + (int)(entry(stat->stx_ino, birth_of(stat)) - files);
    }
    return &files[fd_state[fd] - 2];
}

static void wrote(int fd, int64_t low, int64_t high) {
    int saved = errno;
    struct statx stat;
    pthread_mutex_lock(&lock);
    struct file *file = lookup(fd, &stat);
    if (file) {
        if (low < file->low) file->low = low;
        if (high > file->high) file->high = high;
    }
    pthread_mutex_unlock(&lock);
    errno = saved;
}

static void wrote_here(int fd, ssize_t count) {
    if (!active || count <= 0) return;
    if (fd >= 0 && fd < FDS && fd_state[fd] == 1) return;
    int saved = errno;
    off_t end = (off_t)syscall(SYS_lseek, fd, 0, SEEK_CUR);
    if (end >= 0) wrote(fd, end - count, end);
    errno = saved;
}

static void wrote_somehow(int fd) {
    if (!active) return;
    struct statx stat;
    pthread_mutex_lock(&lock);
    struct file *file = lookup(fd, &stat);
    if (file) file->whole = 1;
    pthread_mutex_unlock(&lock);
}

/* Copies what is between `low` and `high`; holes stay holes. */
static void copy(int from, int to, int64_t low, int64_t high) {
    static char buffer[1 << 16];
    while (low < high) {
        off_t data = (off_t)syscall(SYS_lseek, from, low, SEEK_DATA);
        if (data < 0 || data >= high) {
            /* Only a hole is left: make it one in the copy, too. */
            syscall(SYS_fallocate, to, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, low, high - low);
            return;
        }
        if (data > low) {
            syscall(SYS_fallocate, to, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, low, data - low);
            low = data;
        }
        size_t want = (size_t)(high - low) < sizeof buffer ? (size_t)(high - low) : sizeof buffer;
        ssize_t got = syscall(SYS_pread64, from, buffer, want, low);
        if (got <= 0) return;
        if (syscall(SYS_pwrite64, to, buffer, (size_t)got, low) != got) die("cannot write the mirror");
        low += got;
    }
}

static void name_of(char *out, size_t len, const char *folder, uint64_t inode, uint64_t birth) {
    snprintf(out, len, "%s/%s/%llu-%llu", mirror, folder, (unsigned long long)inode, (unsigned long long)birth);
}

static void sync_file(int fd, struct file *file, const struct statx *stat) {
    char name[PATH_MAX + 64], self[64];
    name_of(name, sizeof name, "files", file->inode, file->birth);
    /* The descriptor may be for writing only. */
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    int from = (int)syscall(SYS_openat, AT_FDCWD, self, O_RDONLY | O_CLOEXEC);
    int to = (int)syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (from < 0 || to < 0) die("cannot copy a file");
    int64_t size = (int64_t)stat->stx_size;
    if (!file->spoilt && (file->whole || size <= SMALL)) {
        copy(from, to, 0, size);
    } else if (file->low < file->high) {
        copy(from, to, file->low, file->high < size ? file->high : size);
    }
    if (syscall(SYS_ftruncate, to, size) != 0) die("cannot cut the mirror");
    syscall(SYS_close, from);
    syscall(SYS_close, to);
    file->low = INT64_MAX;
    file->high = 0;
    file->whole = 0;
}

static void sync_list(int fd, uint64_t inode, uint64_t birth) {
    char name[PATH_MAX + 64], draft[PATH_MAX + 80], self[64];
    name_of(name, sizeof name, "lists", inode, birth);
    snprintf(draft, sizeof draft, "%s.new", name);
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    DIR *folder = opendir(self);
    int to = (int)syscall(SYS_openat, AT_FDCWD, draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (!folder || to < 0) die("cannot list a folder");
    struct dirent *found;
    while ((found = readdir(folder))) {
        if (!strcmp(found->d_name, ".") || !strcmp(found->d_name, "..")) continue;
        struct statx stat;
        if (identify(dirfd(folder), found->d_name, AT_SYMLINK_NOFOLLOW, &stat) != 0) continue;
        char line[PATH_MAX + 64];
        char kind = S_ISDIR(stat.stx_mode) ? 'd' : 'f';
        int len = snprintf(line, sizeof line, "%c %llu-%llu %s", kind, (unsigned long long)stat.stx_ino,
                           (unsigned long long)birth_of(&stat), found->d_name);
        syscall(SYS_write, to, line, (size_t)len + 1);
    }
    int at = dirfd(folder);
    if (at >= 0 && at < FDS) fd_state[at] = 0;
    closedir(folder);
    syscall(SYS_close, to);
    if (syscall(SYS_renameat, AT_FDCWD, draft, AT_FDCWD, name) != 0) die("cannot note a folder");
}

/* Whether this sync is one of those that are to fail. Called with the lock held. */
static int fails(void) {
    if (!active || !fail[0]) return 0;
    int to = (int)syscall(SYS_openat, AT_FDCWD, fail, O_RDWR | O_CLOEXEC);
    if (to < 0) return 0;
    off_t left = (off_t)syscall(SYS_lseek, to, 0, SEEK_END);
    if (left > 0 && syscall(SYS_ftruncate, to, left - 1) != 0) die("POWERLOSS_FAIL");
    syscall(SYS_close, to);
    return left > 0;
}

static void spoil(struct file *file) {
    file->low = INT64_MAX;
    file->high = 0;
    file->spoilt = 1;
}

/* 0: not in the watched folder; 1: done; -1: failed. */
static int synced(int fd) {
    struct statx stat;
    int done = 0;
    pthread_mutex_lock(&lock);
    struct file *file = lookup(fd, &stat);
    if (file && identify(fd, "", AT_EMPTY_PATH, &stat) == 0) {
        done = fails() ? -1 : 1;
        if (done < 0) spoil(file);
        else if (S_ISDIR(stat.stx_mode)) sync_list(fd, file->inode, file->birth);
        else sync_file(fd, file, &stat);
    }
    pthread_mutex_unlock(&lock);
    if (done < 0) errno = EIO;
    return done;
}

/* What is there at the start is on the disk. */
static void sync_everything(int fd) {
    struct statx stat;
    synced(fd);
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    DIR *folder = opendir(self);
    if (!folder) die("cannot open the watched folder");
    struct dirent *found;
    while ((found = readdir(folder))) {
        if (!strcmp(found->d_name, ".") || !strcmp(found->d_name, "..")) continue;
        if (identify(dirfd(folder), found->d_name, AT_SYMLINK_NOFOLLOW, &stat) != 0) continue;
        if (!S_ISDIR(stat.stx_mode) && !S_ISREG(stat.stx_mode)) continue;
        int child = (int)syscall(SYS_openat, dirfd(folder), found->d_name, O_RDONLY | O_CLOEXEC);
        if (child < 0) continue;
        if (S_ISDIR(stat.stx_mode)) sync_everything(child);
        else synced(child);
        if (child < FDS) fd_state[child] = 0;
        syscall(SYS_close, child);
    }
    int at = dirfd(folder);
    if (at >= 0 && at < FDS) fd_state[at] = 0;
    closedir(folder);
}

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("POWERLOSS_WATCH"), *to = getenv("POWERLOSS_MIRROR");
    if (!folder || !to) return;
    if (!realpath(folder, watch)) die("POWERLOSS_WATCH");
    if (!realpath(to, mirror)) die("POWERLOSS_MIRROR");
    /* Programs that this one starts are not watched: two could not share a mirror. */
    unsetenv("POWERLOSS_WATCH");
    watch_len = strlen(watch);
    if (getenv("POWERLOSS_FAIL")) snprintf(fail, sizeof fail, "%s", getenv("POWERLOSS_FAIL"));
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/files", mirror);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/lists", mirror);
    mkdir(path, 0700);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, watch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct statx stat;
    if (fd < 0 || identify(fd, "", AT_EMPTY_PATH, &stat) != 0) die("POWERLOSS_WATCH");
    if (!(stat.stx_mask & STATX_BTIME)) die("the file system knows no birth times");
    char text[64];
    int len = snprintf(text, sizeof text, "%llu-%llu", (unsigned long long)stat.stx_ino, (unsigned long long)birth_of(&stat));
    snprintf(path, sizeof path, "%s/root", mirror);
    int root = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (root < 0 || syscall(SYS_write, root, text, (size_t)len) != len) die("POWERLOSS_MIRROR");
    syscall(SYS_close, root);
    sync_everything(fd);
    if (fd < FDS) fd_state[fd] = 0;
    syscall(SYS_close, fd);
    active = 1;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

int fsync(int fd) {
    REAL(fsync);
    int done = active ? synced(fd) : 0;
    return done == 0 ? real(fd) : done < 0 ? -1 : 0;
}

int fdatasync(int fd) {
    REAL(fdatasync);
    int done = active ? synced(fd) : 0;
    return done == 0 ? real(fd) : done < 0 ? -1 : 0;
}

int close(int fd) {
    REAL(close);
    if (active && fd >= 0 && fd < FDS) {
        pthread_mutex_lock(&lock);
        fd_state[fd] = 0;
        pthread_mutex_unlock(&lock);
    }
    return real(fd);
}

int dup2(int from, int to) {
    REAL(dup2);
    if (active && to >= 0 && to < FDS) fd_state[to] = 0;
    return real(from, to);
}

ssize_t write(int fd, const void *data, size_t len) {
    REAL(write);
    ssize_t done = real(fd, data, len);
    wrote_here(fd, done);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    ssize_t done = real(fd, parts, count);
    wrote_here(fd, done);
    return done;
}

#define PWRITE(name, offset_type) \
    ssize_t name(int fd, const void *data, size_t len, offset_type at) { \
        REAL(name); \
        ssize_t done = real(fd, data, len, at); \
        if (active && done > 0) wrote(fd, at, at + done); \
        return done; \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define PWRITEV(name, offset_type) \
    ssize_t name(int fd, const struct iovec *parts, int count, offset_type at) { \
        REAL(name); \
        ssize_t done = real(fd, parts, count, at); \
        if (active && done > 0) wrote(fd, at, at + done); \
        return done; \
    }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

#define FTRUNCATE(name, offset_type) \
    int name(int fd, offset_type len) { \
        REAL(name); \
        int done = real(fd, len); \
        if (active && done == 0) wrote(fd, len, INT64_MAX); \
        return done; \
    }
FTRUNCATE(ftruncate, off_t)
FTRUNCATE(ftruncate64, off64_t)

#define MMAP(name, offset_type) \
    void *name(void *at, size_t len, int protection, int flags, int fd, offset_type offset) { \
        REAL(name); \
        if (fd >= 0 && (flags & MAP_SHARED) && (protection & PROT_WRITE)) wrote_somehow(fd); \
        return real(at, len, protection, flags, fd, offset); \
    }
MMAP(mmap, off_t)
MMAP(mmap64, off64_t)

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t len, unsigned flags) {
    REAL(copy_file_range);
    wrote_somehow(to);
    return real(from, from_at, to, to_at, len, flags);
}

ssize_t sendfile64(int to, int from, off64_t *at, size_t len) {
    ssize_t (*real)(int, int, off64_t *, size_t) = (ssize_t (*)(int, int, off64_t *, size_t))dlsym(RTLD_NEXT, "sendfile64");
    wrote_somehow(to);
    return real(to, from, at, len);
}
