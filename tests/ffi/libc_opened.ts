/**
 * Opens the C library when imported. It stays open for the life of the process, which the resource sanitizer of tests
 * would take for a leak of the first test that uses it.
 */

import { libc } from "../../ffi/libc/library.ts";

libc();
