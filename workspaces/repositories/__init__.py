"""Where code comes from: one provider port, an adapter per kind of host. Nothing in here knows Django."""
