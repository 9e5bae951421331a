/** Writes to an eventfd after a time; the other thread of a reactor test. */

import { wakeEventfd } from "../../../ffi/libc/process.ts";

self.onmessage = (event: MessageEvent<{ eventfd: number; afterMs: number }>) => {
  setTimeout(() => wakeEventfd(event.data.eventfd), event.data.afterMs);
};
self.postMessage("ready");
