CREATE TABLE users (
    id         INTEGER PRIMARY KEY,
    name       VARCHAR(100) NOT NULL,
    email      VARCHAR(200) NOT NULL UNIQUE,
    city       VARCHAR(100) NOT NULL,
    created_at DATETIME     NOT NULL DEFAULT (datetime('now'))
);
CREATE TABLE products (
    id          INTEGER PRIMARY KEY,
    name        VARCHAR(100) NOT NULL,
    category    VARCHAR(50)  NOT NULL,
    price_cents INT          NOT NULL,
    stock       INT          NOT NULL
);
CREATE TABLE orders (
    id          INTEGER PRIMARY KEY,
    user_id     INT         NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    status      VARCHAR(20) NOT NULL,
    total_cents INT         NOT NULL,
    created_at  DATETIME    NOT NULL DEFAULT (datetime('now'))
);
CREATE INDEX orders_of_user ON orders(user_id, id);
CREATE TABLE order_items (
    id          INTEGER PRIMARY KEY,
    order_id    INT NOT NULL REFERENCES orders(id) ON DELETE CASCADE,
    product_id  INT NOT NULL REFERENCES products(id),
    quantity    INT NOT NULL,
    price_cents INT NOT NULL
);
CREATE INDEX items_of_order ON order_items(order_id);
CREATE TABLE reviews_0 (
    id         INTEGER PRIMARY KEY,
    product_id INT      NOT NULL REFERENCES products(id),
    user_id    INT      NOT NULL,
    stars      INT      NOT NULL,
    body       TEXT     NOT NULL,
    created_at DATETIME NOT NULL DEFAULT (datetime('now'))
);
CREATE INDEX reviews_0_of_product ON reviews_0(product_id);
CREATE TABLE reviews_1 (
    id         INTEGER PRIMARY KEY,
    product_id INT      NOT NULL REFERENCES products(id),
    user_id    INT      NOT NULL,
    stars      INT      NOT NULL,
    body       TEXT     NOT NULL,
    created_at DATETIME NOT NULL DEFAULT (datetime('now'))
);
CREATE INDEX reviews_1_of_product ON reviews_1(product_id);
