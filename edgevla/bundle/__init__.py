"""The artifact between the two machines: schema, defensive reader, atomic writer."""
