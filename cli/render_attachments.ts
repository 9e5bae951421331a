/**
 * What `list` shows. Pure.
 *
 * @module
 */

import type { Attachment } from "./attachments.ts";
import { formatTable, type Paint } from "./paint.ts";

/** What is attached on this machine, a line each. `dir`: the runtime directory that was looked into. */
export function renderAttachments(attachments: readonly Attachment[], dir: string, paint: Paint): string {
  if (attachments.length === 0) return `Nothing is attached, as far as ${dir} tells (or else set $BRMR_RUNTIME_DIR).\n`;
  const rows = [["POOL", "STATE", "DEVICE", "NBD", "PID", "USED"]];
  for (const { poolName, state, device, sockets, pid, uses } of attachments) {
    const hue = state === "ready" ? "green" : state === "left" ? "red" : "yellow";
    rows.push([
      poolName,
      paint(hue, state),
      device ?? "-",
      sockets.join(" ") || "-",
      state === "left" ? "-" : String(pid),
      uses.join(", ") || "-",
    ]);
  }
  let text = formatTable(rows, paint, { right: [4] });
  for (const { poolName, device, state } of attachments) {
    if (state !== "left") continue;
    text += paint(
      "yellow",
      `${device} waits for its process, which is gone: brmr attach ${poolName} --device ${device}, or brmr detach ` +
        poolName,
    ) + "\n";
  }
  return text;
}
