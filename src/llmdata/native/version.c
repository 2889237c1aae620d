#include "native.h"

int llmdata_native_version(void) { return 6; }
