/**
 * What an application may ask of a pool. The numbers are shared with the frontends.
 *
 * @module
 */

/** What a request does. */
export const RequestKind = { READ: 0, WRITE: 1, WRITE_ZEROES: 2, DISCARD: 3, FLUSH: 4 } as const;
/** Not asked for by applications: locks a range while the legs hash it (verify). */
export const COMPARE_KIND = 5;
/** Under that lock: reads a range from one leg, and then becomes a WRITE of it to all. It is in nobody's way but a write's, from the start. */
export const COPY_KIND = 6;
/** Bits of a request's flags: FUA (durable before completion), NO_HOLE (write-zeroes must keep space). */
export const RequestFlag = { FUA: 1, NO_HOLE: 4 } as const;
