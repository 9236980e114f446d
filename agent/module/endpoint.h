/* endpoint: where a pull asks and as whom; worker. */
#pragma once
#include "pull.h"

/* Fills pull->endpoints. */
bool endpoints_find(struct pull *pull, struct error *err);
/* Is there a login (or, without any, nobody) to try at endpoint->login; asks the credential providers when the others are used up. When it is false because the
   caller is to end, err says so; else err stays as it was. */
bool endpoint_has_login(struct pull *pull, struct endpoint *endpoint, struct error *err);
/* False; what is wrong with a credential provider is added to a refusal. */
bool endpoint_refuse(const struct pull *pull, struct error *err);
