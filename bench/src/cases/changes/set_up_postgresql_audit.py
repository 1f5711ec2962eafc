"""Makes the tables and the trigger of PostgreSQL-Audit for the table accounts of the database of the first argument."""

import sys

import sqlalchemy as sa
from postgresql_audit import VersioningManager
from sqlalchemy.orm import declarative_base

Base = declarative_base()
manager = VersioningManager()
manager.init(Base)
# Mapping a first class configures the manager's own.
type("Mapped", (Base,), {"__tablename__": "mapped", "id": sa.Column(sa.BigInteger, primary_key=True)})
sa.orm.configure_mappers()

engine = sa.create_engine(sys.argv[1].replace("postgres://", "postgresql+psycopg2://", 1))
with engine.begin() as connection:
    connection.execute(sa.text("create extension if not exists btree_gist"))
    Base.metadata.create_all(connection)
    connection.execute(sa.text("select audit_table('accounts')"))
