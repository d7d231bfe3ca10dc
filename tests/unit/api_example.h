/* A smallest reply that the tables of codec/api.h allow. */
#pragma once

#include "codec/api.h"

/* All required members, null where that is allowed, lists as short as they may be. New. */
json_t *api_example_result(const struct api_method *m);
json_t *api_example_object(const struct api_object *o);
/* One value, never null. */
json_t *api_example_value(const struct api_param *p);
