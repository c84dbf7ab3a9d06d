//! What a node answered, with the time on the way in it.

use std::time::Duration;

use proto::v1;
use tonic::Code;
use wire::Answer;

use crate::Error;

/// A reply with its value.
pub(crate) fn answer(node: &str, reply: v1::GetReply) -> Result<Answer, Error> {
    Answer::try_from(reply)
        .map_err(|unknown| Error::Internal { node: node.to_owned(), reason: unknown.to_string() })
}

/// One key's part of a batch.
pub(crate) fn key_result(node: &str, result: v1::KeyResult, waited: Duration) -> Result<Answer, Error> {
    match result.result {
        Some(v1::key_result::Result::Reply(reply)) => {
            let mut answer = answer(node, reply)?;
            answer.freshness += waited; // it was under way, for all of that at worst
            Ok(answer)
        }
        Some(v1::key_result::Result::Error(error)) => {
            Err(Error::from_code(node, Code::from_i32(error.code), &error.message, waited))
        }
        Some(v1::key_result::Result::LeftOut(_)) => Err(Error::LeftOut { node: node.to_owned() }),
        None => {
            Err(Error::Internal { node: node.to_owned(), reason: "an empty result for a key".to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_taken_is_an_error_that_names_the_node() {
        let reply = v1::GetReply { outcome: 99, ..Default::default() };
        let error = answer("node-7", reply).unwrap_err().to_string();
        assert!(error.contains("node-7") && error.contains("99"), "{error}");
        assert!(key_result("node-7", v1::KeyResult::default(), Duration::ZERO).is_err());
    }
}
