/**
 * Work that need not be waited for any more once somebody wants an end.
 *
 * @module
 */

/** What `work` gives; rejects with the signal's reason as soon as it is aborted. What becomes of the work then is told to nobody. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener("abort", onAbort);
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
