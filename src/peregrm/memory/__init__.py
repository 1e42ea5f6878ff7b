"""Long-term memory stores behind one interface: what is kept about a user, and what of it is brought into a reply."""
