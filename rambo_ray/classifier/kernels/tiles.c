// Whether there are tiles (tiles.h).

#include <stdint.h>

#if defined(__AMX_BF16__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
enum { ASK_FOR_STATE = 0x1023, TILE_DATA = 18 };  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
// Linux wants to be asked, once by every process.
int64_t has_tiles(void) { return syscall(SYS_arch_prctl, ASK_FOR_STATE, TILE_DATA) == 0; }
#else
int64_t has_tiles(void) { return 0; }
#endif
