"""Questions that the paper leaves open, one module each; nothing else imports them."""
