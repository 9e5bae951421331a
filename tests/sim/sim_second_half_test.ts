/** The second half of the short run. */

import { testWorldsFrom } from "./short_run.ts";

testWorldsFrom(1001);
testWorldsFrom(1501);
