//! A key's parameters become parameters of a statement, with the types that make comparisons exact and keep indexes usable.

use catalog::{ParamType, Value, schema::Field};
use sqlx::{
    Arguments as _, Encode, Type,
    encode::IsNull,
    error::BoxDynError,
    mysql::{MySql, MySqlArguments, MySqlTypeInfo},
    types::BigDecimal,
};

/// How a parameter is written, where its value alone doesn't tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Binding {
    /// By its type.
    #[default]
    Value,
    /// A UUID as 16 bytes.
    UuidBytes,
    /// A UUID as 32 hex digits.
    UuidDigits,
}

impl Binding {
    /// The binding of a parameter that is compared with columns of these types.
    pub(crate) fn of(param: &ParamType, columns: &[&Field]) -> Self {
        let is = |names: &[&str]| {
            columns.iter().any(|column| {
                let column_type = column.mysql_type.to_ascii_lowercase();
                names.iter().any(|name| column_type.starts_with(name))
            })
        };
        match param {
            ParamType::Uuid if is(&["binary", "varbinary", "tinyblob", "blob"]) => Self::UuidBytes,
            ParamType::Uuid if is(&["char(32)", "varchar(32)"]) => Self::UuidDigits,
            _ => Self::Value,
        }
    }

    /// Adds `value` to the arguments of a statement.
    pub(crate) fn add(self, arguments: &mut MySqlArguments, value: &Value) -> Result<(), BoxDynError> {
        match (value, self) {
            (Value::U64(number), _) => arguments.add(*number),
            (Value::I64(number), _) => arguments.add(*number),
            (Value::Bool(value), _) => arguments.add(u8::from(*value)),
            (Value::Str(text), _) => arguments.add(&**text),
            (Value::Decimal(text), _) => arguments.add(Decimal(text)),
            (Value::Bytes(bytes), _) => arguments.add(bytes.as_slice()),
            (Value::Uuid(bytes), Self::UuidBytes) => arguments.add(bytes.as_slice()),
            (Value::Uuid(_), Self::UuidDigits) => arguments.add(value.sql_text().replace('-', "")),
            // A constant text is turned into the column's temporal type once, before rows are compared.
            (Value::Uuid(_) | Value::Date(_) | Value::DateTime(_) | Value::Time(_), _) => {
                arguments.add(value.sql_text())
            }
        }
    }
}

/// A DECIMAL parameter: as text it would be compared as a double.
struct Decimal<'a>(&'a str);

impl Type<MySql> for Decimal<'_> {
    fn type_info() -> MySqlTypeInfo {
        <BigDecimal as Type<MySql>>::type_info()
    }
}

impl Encode<'_, MySql> for Decimal<'_> {
    fn encode_by_ref(&self, buf: &mut Vec<u8>) -> Result<IsNull, BoxDynError> {
        // The protocol writes the length of a decimal in one byte; DECIMAL has at most 65 digits.
        buf.push(
            u8::try_from(self.0.len())
                .ok()
                .filter(|length| *length < 251)
                .ok_or("a decimal of over 250 characters")?,
        );
        buf.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
}
