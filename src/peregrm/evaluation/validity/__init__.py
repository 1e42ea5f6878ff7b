"""Is the judge worth listening to, and does personalization matter: seven measurements that make one judge card."""
