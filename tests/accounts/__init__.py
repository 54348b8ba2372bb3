"""Who: tokens, sign-in links, sessions."""
