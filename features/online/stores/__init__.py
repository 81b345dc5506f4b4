"""Online stores for Feast, chosen by `online_store.type` in feature_store.yaml.

`driftline.features.online.stores.sqlite.SqliteOnlineStore` and
`driftline.features.online.stores.redis.RedisOnlineStore`
keep the layout of Feast's own `sqlite` and `redis`, so those read the same rows. Beyond them: a row
is only replaced by a newer one, whichever process writes, and a row older than its view's ttl is not there.
"""
