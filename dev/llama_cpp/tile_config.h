/* GCC's _tile_loadconfig (12.2, amxtileintrin.h) tells the compiler that it reads the first eight of the 64 bytes, so that
   the stores of the others are dropped where the array is local, as in llama.cpp (llama-cpp-python 0.3.36): the tiles
   stay unconfigured, and the first one used is an illegal instruction. This one reads all of them. */
#pragma once
#if defined(__x86_64__) && defined(__AMX_TILE__)
#include <immintrin.h>
#define _tile_loadconfig(config) __asm__ volatile("ldtilecfg\t%X0" ::"m"(*(const char(*)[64])(config)))
#endif
