/* A disk that takes no byte any more, from the moment stubborn_disk(ENOSPC) or stubborn_disk(EROFS) is called:
 * LD_PRELOAD it. Files that exist can be read, and written over with what is in the page cache already (mmap), as on a
 * real one that is full; what makes a file, or would write to one, fails with that errno. Terminals, pipes and sockets
 * are let alone. stubborn_disk(0) makes room again. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static volatile int refusal;

void stubborn_disk(int number)
{
    refusal = number;
}

static int refused(int fd)
{
    struct stat it;
    if (refusal == 0 || fstat(fd, &it) != 0 || !S_ISREG(it.st_mode))
        return 0;
    errno = refusal;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *from, size_t size)
{
    return refused(fd) ? -1 : REAL(write)(fd, from, size);
}

ssize_t pwrite(int fd, const void *from, size_t size, off_t at)
{
    return refused(fd) ? -1 : REAL(pwrite)(fd, from, size, at);
}

ssize_t pwrite64(int fd, const void *from, size_t size, off64_t at)
{
    return refused(fd) ? -1 : REAL(pwrite64)(fd, from, size, at);
}

int ftruncate(int fd, off_t size)
{
    return refused(fd) ? -1 : REAL(ftruncate)(fd, size);
}

int ftruncate64(int fd, off64_t size)
{
    return refused(fd) ? -1 : REAL(ftruncate64)(fd, size);
}

int posix_fallocate(int fd, off_t at, off_t size)
{
    return refused(fd) ? refusal : REAL(posix_fallocate)(fd, at, size);
}

int posix_fallocate64(int fd, off64_t at, off64_t size)
{
    return refused(fd) ? refusal : REAL(posix_fallocate64)(fd, at, size);
}

static int cannot_make(const char *path, int flags)
{
    if (refusal == 0)
        return 0;
    int makes = (flags & O_CREAT) != 0 && access(path, F_OK) != 0;
    struct stat it;
    int writes = refusal == EROFS && (flags & O_ACCMODE) != O_RDONLY && stat(path, &it) == 0 && S_ISREG(it.st_mode);
    if (!makes && !writes)
        return 0;
    errno = refusal;
    return 1;
}

int open(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    return cannot_make(path, flags) ? -1 : REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    return cannot_make(path, flags) ? -1 : REAL(open64)(path, flags, mode);
}
