//! Carts: a list of product ids per customer, kept in Redis for a while. It must not know prices.

use super::redis::{Error, Redis, Reply};

/// How long a cart that nobody touches is kept, in seconds.
const LIFETIME_SECONDS: &str = "600";

/// The index of the last item that a cart keeps, so that a load generator cannot fill the store.
const LAST_ITEM: &str = "19";

/// Every cart.
pub(super) struct Carts {
    redis: Redis,
}

impl Carts {
    /// Carts in the Redis at `address`, a host and a port.
    pub(super) fn new(address: String) -> Self {
        Self { redis: Redis::new(address) }
    }

    /// Puts one more `product` into the cart of `customer`.
    pub(super) async fn add(&self, customer: &str, product: &str) -> Result<(), Error> {
        let key = key(customer);
        self.redis.command(&["LPUSH", &key, product]).await?;
        self.redis.command(&["LTRIM", &key, "0", LAST_ITEM]).await?;
        self.redis.command(&["EXPIRE", &key, LIFETIME_SECONDS]).await?;
        Ok(())
    }

    /// The product ids in the cart, the newest first.
    pub(super) async fn items(&self, customer: &str) -> Result<Vec<String>, Error> {
        match self.redis.command(&["LRANGE", &key(customer), "0", "-1"]).await? {
            Reply::List(items) => items.into_iter().map(text).collect(),
            other => Err(Error::Protocol(format!("{other:?}"))),
        }
    }

    /// Empties the cart.
    pub(super) async fn clear(&self, customer: &str) -> Result<(), Error> {
        self.redis.command(&["DEL", &key(customer)]).await.map(drop)
    }
}

fn key(customer: &str) -> String {
    format!("cart:{customer}")
}

fn text(item: Reply) -> Result<String, Error> {
    match item {
        Reply::Text(bytes) => String::from_utf8(bytes).map_err(|error| Error::Protocol(error.to_string())),
        other => Err(Error::Protocol(format!("{other:?}"))),
    }
}
