// How the C library's heap treats memory that is given back.
#pragma once

namespace kuramori {

// Blocks of up to 32 MiB go back to the heap and not to the kernel, which would clear every page anew when
// the next one is taken: for programs that take and give the same sizes again and again. Up to 64 MiB that
// nobody uses stay at an arena's end. Called before other threads are.
void keep_freed_memory();
// The same for a program that lives for one task: one arena for all its threads.
void keep_freed_memory_in_one_arena();
// Blocks of 1 MiB and more go back to the kernel as soon as they are freed, for programs that are held to a
// limit: glibc else keeps ever larger ones, in an arena for each thread. Called before other threads are.
void give_back_large_blocks();
// The same for a program whose many threads mostly wait: they share two arenas.
void give_back_large_blocks_of_two_arenas();
// What stayed goes back now.
void give_back_freed_memory();

}  // namespace kuramori
