"""The FastAPI server that `make bench` compares Stoa with.

It is written to be fast: one event loop (uvloop), one HTTP parser (httptools), answers
kept in Redis as bytes and returned without encoding them again, asyncpg with prepared
statements on the paths that are measured, JSON by orjson. It does less than Stoa: no
metrics, security headers, request log or limit on reads; executions that are lost when
the process dies; payloads in clear text.

The harness makes its tables and fills them; see ../fastapi.go.
"""

import asyncio
import os
import time
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import aiohttp
import asyncpg
import fastjsonschema
import jwt
import orjson
import redis.asyncio as redis
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

DATABASE_URL = os.environ["DATABASE_URL"]
REDIS_URL = os.environ["REDIS_URL"]
SECRET_KEY = os.environ["SECRET_KEY"]
OPENAI_BASE_URL = os.environ["OPENAI_BASE_URL"]
OPENAI_API_KEY = os.environ["OPENAI_API_KEY"]
PREFIX = os.environ.get("CACHE_PREFIX", "")  # of every key, so that runs can share a Redis
RATE_LIMIT_REQUESTS = int(os.environ.get("RATE_LIMIT_REQUESTS", "1000"))
RATE_LIMIT_WINDOW = int(os.environ.get("RATE_LIMIT_WINDOW", "3600"))
ACCESS_TOKEN_EXPIRE_MINUTES = 15
REFRESH_TOKEN_EXPIRE_DAYS = 7
CACHE_SECONDS = 300

# The same cost as Stoa's: 19 MiB, 2 passes, 1 lane.
hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, hash_len=32, salt_len=16)
DECOY = hasher.hash("a password that nobody has")

# Two buckets: the current window's count, and the share of the previous one that the
# sliding window still covers.
SLIDING_WINDOW = """
local clock = redis.call('TIME')
local window = tonumber(ARGV[2])
local passed = (clock[1] + clock[2] / 1000000) / window
local number = math.floor(passed)
local current = KEYS[1] .. ':' .. number
local previous = tonumber(redis.call('GET', KEYS[1] .. ':' .. (number - 1)) or '0')
local count = tonumber(redis.call('GET', current) or '0')
if previous * (1 - (passed - number)) + count >= tonumber(ARGV[1]) then return 0 end
if redis.call('INCR', current) == 1 then redis.call('EXPIRE', current, 2 * window) end
return 1
"""


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]


class Session(Base):
    __tablename__ = "sessions"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    user_id: Mapped[uuid.UUID]
    expires_at: Mapped[int]


class Services:
    """What lives as long as the process."""

    pool: asyncpg.Pool
    cache: redis.Redis
    http: aiohttp.ClientSession
    sessions: async_sessionmaker
    allow: Any
    validators: dict[str, Any]


services = Services()


@asynccontextmanager
async def lifespan(_: FastAPI):
    services.pool = await asyncpg.create_pool(DATABASE_URL, min_size=10, max_size=100)
    services.cache = redis.Redis.from_url(REDIS_URL, max_connections=100)
    services.allow = services.cache.register_script(SLIDING_WINDOW)
    services.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100), json_serialize=lambda v: orjson.dumps(v).decode())
    # asyncpg reads the address itself: SQLAlchemy would hand it parameters that it does not know.
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(DATABASE_URL), pool_size=20, max_overflow=80
    )
    services.sessions = async_sessionmaker(engine, expire_on_commit=False)
    services.validators = {}
    yield
    await services.http.close()
    await engine.dispose()
    await services.cache.aclose()
    await services.pool.close()


app = FastAPI(title="Agent Marketplace API", version="1.0.0", lifespan=lifespan)


def rfc3339(t: datetime) -> str:
    return t.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{t.microsecond // 1000:03d}Z"


def raw(text: str) -> orjson.Fragment:
    """JSON out of the database, put into an answer as it is."""
    return orjson.Fragment(text)


def package_of(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "id": row["id"],
        "object": "package",
        "name": row["name"],
        "title": row["title"],
        "summary": row["summary"],
        "visibility": row["visibility"],
        "runtime": raw(row["runtime"]),
        "categories": row["categories"],
        "tags": row["tags"],
        "latest_version": raw(row["latest_version"]),
        "pricing": raw(row["pricing"]),
        "permissions": raw(row["permissions"]),
        "statistics": raw(row["statistics"]),
        "created_at": rfc3339(row["created_at"]),
        "updated_at": rfc3339(row["updated_at"]),
    }


def answer(body: bytes, status: int = 200) -> Response:
    return Response(body, status_code=status, media_type="application/json")


def check_token(authorization: str) -> uuid.UUID:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise HTTPException(401, "a bearer token is needed")
    try:
        claims = jwt.decode(token, SECRET_KEY, algorithms=["HS256"], options={"require": ["exp", "sub"]})
    except jwt.PyJWTError:
        raise HTTPException(401, "the token is not valid") from None
    if claims.get("type") != "access":
        raise HTTPException(401, "the token is not valid")
    return uuid.UUID(claims["sub"])


async def current_user(authorization: Annotated[str, Header()]) -> uuid.UUID:
    return check_token(authorization)


async def optional_user(authorization: Annotated[str | None, Header()] = None) -> uuid.UUID | None:
    return check_token(authorization) if authorization else None


@app.get("/health")
async def health():
    return {"status": "healthy"}


@app.get("/api/v1/packages")
async def list_packages(limit: Annotated[int, Query(ge=1, le=100)] = 20):
    key = f"{PREFIX}packages:{limit}"
    if (body := await services.cache.get(key)) is None:
        rows = await services.pool.fetch(
            "SELECT * FROM packages WHERE visibility = 'public' ORDER BY created_at DESC, id DESC LIMIT $1", limit + 1
        )
        body = orjson.dumps({"object": "list", "data": [package_of(r) for r in rows[:limit]], "has_more": len(rows) > limit})
        await services.cache.set(key, body, ex=CACHE_SECONDS)
    return answer(body)


async def read_package(package_id: str) -> bytes:
    row = await services.pool.fetchrow("SELECT * FROM packages WHERE id = $1 AND visibility = 'public'", package_id)
    if row is None:
        raise HTTPException(404, "there is no such package")
    return orjson.dumps(package_of(row) | {"detail": raw(row["detail"])})


async def cached_package(package_id: str) -> bytes:
    key = f"{PREFIX}package:{package_id}"
    if (body := await services.cache.get(key)) is None:
        body = await read_package(package_id)
        await services.cache.set(key, body, ex=CACHE_SECONDS)
    return body


@app.get("/api/v1/packages/{package_id}")
async def get_package(package_id: str, user: Annotated[uuid.UUID | None, Depends(optional_user)]):
    """Anonymous answers come from the cache, those for somebody from the database."""
    return answer(await (read_package(package_id) if user else cached_package(package_id)))


class Credentials(BaseModel):
    model_config = ConfigDict(extra="forbid")
    email: Annotated[str, Field(max_length=320)]
    password: Annotated[str, Field(min_length=8, max_length=1024)]


def matches(hashed: str, password: str) -> bool:
    try:
        return hasher.verify(hashed, password)
    except VerifyMismatchError:
        return False


@app.post("/api/v1/auth/login")
async def login(credentials: Credentials):
    async with services.sessions() as db:
        user = await db.scalar(select(User).where(User.email == credentials.email.lower()))
        # No connection is held while the password is verified; the C code lets other threads run.
        await db.commit()
        same = await asyncio.to_thread(matches, user.password_hash if user else DECOY, credentials.password)
        if not user or not same:
            raise HTTPException(401, "the e-mail address or the password is wrong")
        now = int(time.time())
        session = Session(id=uuid.uuid4(), user_id=user.id, expires_at=now + REFRESH_TOKEN_EXPIRE_DAYS * 86400)
        db.add(session)
        await db.commit()
    claims = {"sub": str(user.id), "sid": str(session.id), "iat": now}
    access = jwt.encode(claims | {"type": "access", "exp": now + ACCESS_TOKEN_EXPIRE_MINUTES * 60}, SECRET_KEY, "HS256")
    refresh = jwt.encode(claims | {"type": "refresh", "exp": session.expires_at}, SECRET_KEY, "HS256")
    return answer(
        orjson.dumps({"access_token": access, "refresh_token": refresh, "token_type": "bearer", "expires_in": ACCESS_TOKEN_EXPIRE_MINUTES * 60})
    )


class ExecuteRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    input: dict[str, Any]
    metadata: Annotated[dict[str, str], Field(max_length=16)] = {}


@app.post("/api/v1/agents/{package_id}/execute")
async def execute(package_id: str, body: ExecuteRequest, user: Annotated[uuid.UUID, Depends(current_user)]):
    if not await services.allow(keys=[f"{PREFIX}rl:{{{user}}}"], args=[RATE_LIMIT_REQUESTS, RATE_LIMIT_WINDOW]):
        raise HTTPException(429, "too many requests")
    package = orjson.loads(await cached_package(package_id))
    detail = package["detail"]
    digest = detail["version"]["digest"]
    if (validate := services.validators.get(digest)) is None:
        validate = services.validators[digest] = fastjsonschema.compile(detail["input"])
    try:
        validate(body.input)
    except fastjsonschema.JsonSchemaValueException:
        raise HTTPException(422, "the input does not fit the package's schema") from None
    started = datetime.now(UTC)
    model = package["runtime"]["models"][0].partition("/")[2]
    async with services.http.post(
        OPENAI_BASE_URL + "/chat/completions",
        headers={"Authorization": "Bearer " + OPENAI_API_KEY},
        json={"model": model, "max_tokens": 1024, "messages": [{"role": "user", "content": "Answer: " + body.input["text"]}]},
    ) as response:
        if response.status != 200:
            raise HTTPException(502, "the model did not answer")
        completion = orjson.loads(await response.read())
    output = {"text": completion["choices"][0]["message"]["content"]}
    usage = {"input_tokens": completion["usage"]["prompt_tokens"], "output_tokens": completion["usage"]["completion_tokens"]}
    execution, finished = uuid.uuid4(), datetime.now(UTC)
    await services.pool.execute(
        "INSERT INTO executions (id, user_id, package_id, digest, status, input, output, usage, created_at, finished_at)"
        " VALUES ($1, $2, $3, $4, 'succeeded', $5, $6, $7, $8, $9)",
        execution, user, package_id, digest,
        orjson.dumps(body.input).decode(), orjson.dumps(output).decode(), orjson.dumps(usage).decode(), started, finished,
    )
    return answer(
        orjson.dumps({
            "id": f"exe_{execution.hex}", "object": "execution", "package": package["name"], "version": detail["version"]["version"],
            "digest": digest, "status": "succeeded", "input": body.input, "output": output, "error": None, "metadata": body.metadata,
            "created_at": rfc3339(started), "started_at": rfc3339(started), "finished_at": rfc3339(finished), "usage": usage,
        })
    )
